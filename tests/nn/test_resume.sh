#!/bin/sh
# mra train and mra dump as a user meets them: killed at any moment and started again, stopped by a signal, refused.
. "$(dirname "$0")/../tap.sh"

cat >small.ini <<'INI'
[data]
name = listops
train = 200
dev = 40
test = 40
minimum_length = 4
maximum_length = 60
[model]
dim = 32
hidden = 32
head_dim = 16
dropout = 0.1
pooling = tokens
[attention]
method = mra2
blocks = 1
[train]
steps = 150
warmup = 10
batch = 8
batching = bucketed
learning_rate = 1e-3
log_every = 7
eval_every = 40
checkpoint_every = 10
INI

train() { # train FOLDER [ARGUMENT]...
    folder=$1
    shift
    "$mra" train small.ini --out "$folder" "$@"
}

rows() { awk "END { print NR }" "$1/log.tsv" 2>/dev/null || echo 0; }

# Everything of a log but its two columns of time.
log_of() { cut -f 1-5 "$1/log.tsv"; }

passes 'a training' train whole --threads 2 --quiet
prints 'its result is printed beside the most frequent answer' '^test	40	0\.[0-9]+	0\.[0-9]+	'
[ ! -s "$work/stderr" ]
ok $? '--quiet is quiet'
for file in checkpoint.safetensors weights.safetensors log.tsv result.tsv run.json; do
    [ -s "whole/$file" ]
    ok $? "it leaves $file"
done
[ "$(head -1 whole/result.tsv | cut -f 1-5)" = 'split	examples	accuracy	loss	majority' ]
ok $? 'result.tsv has a column for the most frequent answer'

# Killed again and again, each time after the log has grown, so that it also dies between checkpoints.
kills=0
while :; do
    lines=$(rows parts)
    "$mra" train small.ini --out parts --threads $((1 + kills % 2)) --quiet >/dev/null 2>&1 &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        now=$(rows parts)
        [ "$now" -le $((lines + 2)) ] || [ "$kills" -ge 4 ] || break
        sleep 0.01
    done
    if [ "$kills" -lt 4 ] && kill -KILL "$child" 2>/dev/null; then
        kills=$((kills + 1))
        wait "$child" 2>/dev/null
    else
        wait "$child"
        last=$?
        break
    fi
done
[ "$last" -eq 0 ]
ok $? "a training killed $kills times ends"
cmp -s whole/weights.safetensors parts/weights.safetensors
ok $? 'with the same weights, bit for bit'
log_of whole >"$work/a"
log_of parts >"$work/b"
cmp -s "$work/a" "$work/b"
ok $? 'and the same log'

# SIGTERM: a checkpoint, one line, status 2.
"$mra" train small.ini --out stopped --quiet >/dev/null 2>"$work/stderr" &
child=$!
while [ ! -s stopped/log.tsv ] && kill -0 "$child" 2>/dev/null; do sleep 0.01; done
kill -TERM "$child" 2>/dev/null
wait "$child"
status=$?
if [ "$status" -eq 0 ]; then
    skip 'SIGTERM stops a training in order' 'it was finished before the signal came'
else
    [ "$status" -eq 2 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] &&
        grep -q 'stopped at step [0-9]* of 150; the same command goes on' "$work/stderr"
    ok $? 'SIGTERM stops a training in order'
fi
passes 'and the same command goes on' train stopped --quiet
cmp -s whole/weights.safetensors stopped/weights.safetensors
ok $? 'to the same weights'

rm -rf parts stopped

# Several seeds: each as it is alone, and mean and deviation of their results.
few='train.steps=20 train.eval_every=10'
# shellcheck disable=SC2086
passes 'three seeds' "$mra" train small.ini --out many --seeds 3,1,7 --quiet $few
prints 'mean and deviation are shown' '^test	3	0\.[0-9]+	0\.[0-9]+$'
# shellcheck disable=SC2086
passes 'one of them alone' "$mra" train small.ini --out single --seed 7 --quiet $few
cmp -s many/seed7/weights.safetensors single/weights.safetensors
ok $? 'has the same weights'
awk -F '\t' 'NR == 1 { good = $2 == "seed" && $3 == "accuracy"; next }
    $2 == "mean" { n = 0; for (s in value) { n++; sum += value[s] }
                   mean = sum / n; good = good && n == 3 && ($3 - mean)^2 < 1e-12; next }
    $2 == "deviation" { for (s in value) square += (value[s] - mean)^2
                        good = good && ($3 - sqrt(square / 2))^2 < 1e-12; split("", value); sum = square = 0; next }
    { value[$2] = $3 }
    END { exit !(good && NR == 11) }' many/seeds.tsv
ok $? 'seeds.tsv has every seed, their mean and their deviation'
rm -rf many single
refuses 'another seed needs another folder' 'train.seed=1, here train.seed=5' train whole --seed 5
sed s/^steps/stepz/ small.ini >"$work/bad.ini"
refuses 'a misspelt setting' 'bad.ini:18.*train.stepz.*train.steps' "$mra" train \
    "$work/bad.ini" --out other
refuses 'a setting out of range' 'model.layers' train other model.layers=0
refuses 'an unknown method' 'frobnicate' train other attention.method=frobnicate
refuses 'an option that the method does not have' 'window' train other attention.window=3
refuses 'settings that are not there' 'absent.ini' "$mra" train absent.ini
refuses 'a data set that is not there' 'MRA_DATA' env MRA_DATA=/nowhere "$mra" train small.ini \
    data.name=text --out other --quiet

# A method that learns: its projections are stored, and go on from a checkpoint like all else.
grep -v '^blocks' small.ini | sed 's/^method.*/method = linformer\nk = 16/; s/^steps.*/steps = 30/' >learning.ini
passes 'a training of a method that learns' "$mra" train learning.ini --out learnt --quiet
for block in 0 1; do
    grep -aq "\"encoder.block$block.attention.projection\":{\"dtype\":\"F32\",\"shape\":\[[0-9]*,16,64\]" learnt/weights.safetensors
    ok $? "its projection of block $block is among the weights"
done
passes 'mra dump' "$mra" dump whole --length 20 --examples 3 --out dumped --quiet
[ "$(shape_of dumped/example2-k.npy)" = '4, 20, 16' ] && [ "$(type_of dumped/example0-q.npy)" = '<f2' ]
ok $? 'writes float16 arrays of shape [layers * heads, n, d]'
[ "$(find dumped -type f | wc -l)" -eq 11 ]
ok $? 'three arrays an example, a table and a run record'
awk -F '\t' 'NR > 1 && ($3 < 20 || $3 < last) { bad = 1 } NR > 1 { last = $3 } END { exit bad || NR != 4 }' \
    dumped/examples.tsv
ok $? 'examples are the shortest ones that are long enough'
passes 'the arrays are what attention takes' "$mra" attend --method exact --q dumped/example0-q.npy \
    --k dumped/example0-k.npy --v dumped/example0-v.npy --out z.npy
refuses 'too long for the network' 'at most 64' "$mra" dump whole --length 65 --out more --quiet
refuses 'too few examples of that length' 'expected 40' "$mra" dump whole --length 50 --examples 40 \
    --out more --quiet
refuses 'an unknown split' 'train, dev or test' "$mra" dump whole --length 9 --split best --out more
refuses 'no training there' 'weights.safetensors' "$mra" dump nowhere --length 9 --out more
finish
