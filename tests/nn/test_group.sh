#!/bin/sh
# Several processes train one network (mpirun): the bits of one process, one line for what is wrong, and a process that dies.
. "$(dirname "$0")/../tap.sh"

# As root, on a machine with fewer cores than processes, and in a container.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_btl_vader_single_copy_mechanism=none

cat >small.ini <<'INI'
[data]
name = listops
train = 120
dev = 30
test = 20
minimum_length = 4
maximum_length = 40
[model]
dim = 16
hidden = 16
head_dim = 8
[attention]
method = mra2
blocks = 1
[train]
steps = 30
accumulate = 6
batch = 9
batching = bucketed
learning_rate = 1e-2
clip = 1
log_every = 4
eval_every = 12
checkpoint_every = 5
INI

together() { # together PROCESSES FOLDER [ARGUMENT]...
    count=$1
    folder=$2
    shift 2
    mpirun -n "$count" "$mra" train small.ini --threads 1 --quiet --out "$folder" "$@"
}

if ! command -v mpirun >/dev/null 2>&1; then
    skip 'several processes train together' 'there is no mpirun here'
    finish
    exit
fi
if together 2 probe train.steps=1 2>&1 | grep -q 'built without MPI'; then
    skip 'several processes train together' 'the program was built without MPI'
    finish
    exit
fi

log_of() { cut -f 1-5 "$1/log.tsv"; }
same_as_alone() { # same_as_alone FOLDER WHAT
    cmp -s alone/weights.safetensors "$1/weights.safetensors"
    ok $? "$2: the weights of one process, bit for bit"
    log_of alone >a
    log_of "$1" >b
    cmp -s a b
    ok $? "$2: and its log"
}

passes 'one process' "$mra" train small.ini --threads 2 --quiet --out alone
passes 'two processes' together 2 two
same_as_alone two 'two processes'
passes 'three processes and threads that prepare batches' together 3 three train.prefetch=yes
same_as_alone three 'three processes'
passes 'a finished training only reads its result again' together 2 two
prints 'and shows it once' '^test	20	'
[ "$(grep -c '^test' "$work/stdout")" -eq 1 ]
ok $? 'from one process'

# What is wrong ends all of them, with one line.
together 4 four >out 2>err
[ $? -eq 2 ] && [ "$(grep -c 'mra: ' err)" -eq 1 ] && grep -q 'mra: 4 processes.*train.accumulate=6.*multiple of 4' err
ok $? 'parts that cannot be shared out evenly'
[ ! -e four ]
ok $? 'leave nothing behind'
together 2 two train.seed=9 >out 2>err
[ $? -eq 2 ] && [ "$(grep -c 'mra: ' err)" -eq 1 ] && grep -q 'train.seed=1, here train.seed=9' err
ok $? 'what the first process alone can see, a foreign checkpoint, ends all'

# One process is killed in the middle: mpirun says so and ends the other; the same command goes on.
long='train.steps=600 train.checkpoint_every=20 train.eval_every=200'
# shellcheck disable=SC2086
mpirun -n 2 "$mra" train small.ini --threads 1 --quiet --out killed $long >out 2>err &
job=$!
while [ ! -s killed/checkpoint.safetensors ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
for child in $(pgrep -P "$job"); do victim=$child; done
kill -KILL "$victim"
wait "$job"
status=$?
[ "$status" -ne 0 ] && grep -q 'signal 9' err
ok $? 'a process that is killed ends the others, and mpirun says why'
[ -s killed/checkpoint.safetensors ] && [ ! -e killed/weights.safetensors ]
ok $? 'its checkpoint is there'

# SIGTERM at one of the two stops both in order.
# shellcheck disable=SC2086
mpirun -n 2 "$mra" train small.ini --threads 1 --quiet --out killed $long >out 2>err &
job=$!
rows=$(wc -l <killed/log.tsv)
while [ "$(wc -l <killed/log.tsv)" -le "$((rows + 2))" ] && kill -0 "$job" 2>/dev/null; do sleep 0.02; done
for child in $(pgrep -P "$job"); do victim=$child; done
kill -TERM "$victim"
wait "$job"
[ $? -eq 2 ] && grep -q 'stopped at step [0-9]* of 600; the same command goes on' err
ok $? 'a process that is asked to stop stops all in order'

# What two processes began, one finishes; and the end is that of a run that never stopped.
# shellcheck disable=SC2086
passes 'one process goes on where two were' "$mra" train small.ini --threads 1 --quiet --out killed $long
rm -r alone
# shellcheck disable=SC2086
passes 'a run that never stopped' "$mra" train small.ini --threads 1 --quiet --out alone $long
same_as_alone killed 'killed, stopped, gone on'
finish
