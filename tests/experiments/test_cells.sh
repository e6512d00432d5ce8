#!/bin/sh
# The cells of the tables: their settings hold the published numbers, the program accepts them all, and a plan is run to its end, also
# after an interruption, by each of the sweeps.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}
out=${MRA_OUT:?MRA_OUT: expected the folder of the build}
published=$root/paper/published

mkdir -p build
ln -s "$out" build/release
BUILD=$work/here/build
export BUILD
script() { # script NAME [ARGUMENT]...
    name=$1
    shift
    sh "$root/experiments/$name.sh" "$@"
}
cells() { gawk -v profile="$1" -v out="$1" -f "$root/experiments/cells/settings.awk" "$root/experiments/cells/profiles.tsv" \
    "$published/lra_tasks.tsv" "$published/lra_methods.tsv"; }

# ---- The settings --------------------------------------------------------------------------------------------------
for profile in paper reduced laptop smoke; do
    passes "the cells of $profile" cells $profile
done
[ "$(find paper -name '*.ini' | wc -l)" -eq 80 ] && [ "$(find reduced -name '*.ini' | wc -l)" -eq 80 ]
ok $? 'paper and reduced have sixteen methods on five tasks'

# Every number of the task's row, in the file of every method.
gawk -F '\t' '
    FILENAME ~ /lra_tasks/ && FNR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; next }
    FILENAME ~ /lra_tasks/ { for (i = 1; i <= NF; i++) task[$1, name[i]] = $i; next }
    FNR == 1 { files++; section = ""; part = split(FILENAME, word, "/"); which = word[part - 1] }
    /^\[/ { section = substr($0, 2, length($0) - 2); next }
    / = / { split($0, pair, " = "); value[FILENAME, section "." pair[1]] = pair[2]; of[FILENAME] = which }
    function same(file, key, column) {
        checked++
        if (value[file, key] != task[of[file], column]) { print "# " file ": " key " is " value[file, key] ", published " task[of[file], column]; bad = 1 }
    }
    END {
        for (file in of) {
            same(file, "model.dim", "dim"); same(file, "model.hidden", "hidden_dim"); same(file, "model.head_dim", "head_dim")
            same(file, "model.heads", "num_head"); same(file, "model.layers", "num_layers"); same(file, "model.dropout", "dropout")
            same(file, "data.maximum_length", "max_seq_len"); same(file, "train.batch", "batch_size")
            same(file, "train.learning_rate", "learning_rate"); same(file, "train.warmup", "warmup_steps")
            same(file, "train.anneal", "lr_decay"); same(file, "train.weight_decay", "weight_decay")
            same(file, "train.steps", "train_steps"); same(file, "train.eval_every", "eval_every")
            if (value[file, "train.dev_examples"] != task[of[file], "eval_steps"] * task[of[file], "batch_size"]) bad = 1
            n = value[file, "model.positions"]
            if (value[file, "model.pooling"] != "all" || value[file, "train.batching"] != "padded" ||
                n != (of[file] == "listops" ? 2048 : of[file] == "text" || of[file] == "retrieval" ? 4096 : 1024)) bad = 1
        }
        exit bad || files != 80 || checked != 80 * 14
    }' "$published/lra_tasks.tsv" paper/lra/*/*.ini >"$work/differences"
ok $? 'profile paper has the published sizes, schedule and batches'
note "$(cat "$work/differences")"

# has FILE LINE...: whether the file has these lines.
has() {
    file=$1
    shift
    for line; do
        grep -qx -- "$line" "$file" || {
            note "$file: no line '$line'"
            return 1
        }
    done
}
# The options of every method on two tasks that differ, as the published configurations have them.
methods() {
    has paper/lra/listops/mra2.ini 'method = mra2' 'blocks = 8' 'first = 1' 'diagonal = 0' 'rows = all' &&
        has paper/lra/image/mra2s.ini 'method = mra2s' 'blocks = 8' 'first = 0' 'diagonal = 1' 'grid = 32x32' &&
        has paper/lra/pathfinder32/mra2.ini 'first = 1' 'diagonal = 0' 'grid = 32x32' &&
        has paper/lra/text/bigbird.ini 'block = 32' 'random = 2' 'variant = published' &&
        has paper/lra/text/linformer.ini 'k = 256' && has paper/lra/text/longformer.ini 'window = 64' 'global = 1' &&
        has paper/lra/text/nystromformer.ini 'method = nystromformer' 'landmarks = 64' &&
        has paper/lra/text/nystromformer-conv.ini 'method = nystromformer-conv' 'landmarks = 64' 'conv = 33' &&
        has paper/lra/text/performer.ini 'features = 256' && has paper/lra/text/reformer.ini 'hashes = 2' &&
        has paper/lra/text/scatterbrain.ini 'window = 64' && has paper/lra/text/soft.ini 'method = soft' 'landmarks = 64' &&
        has paper/lra/text/soft-conv.ini 'landmarks = 64' 'conv = 33' && has paper/lra/text/exact.ini 'method = exact' &&
        has paper/lra/listops/yoso.ini 'hashes = 16' 'bits = 11' && has paper/lra/image/yoso-conv.ini 'bits = 10' 'conv = 33' &&
        has paper/lra/text/htransformer1d.ini 'method = htransformer1d' 'variant = published'
}
methods
ok $? 'and the published parameters of the methods'
has reduced/lra/retrieval/exact.ini 'name = same-film' && has reduced/lra/text/yoso.ini 'bits = 10' &&
    has reduced/lra/text/linformer.ini 'k = 64' && has reduced/lra/listops/mra2.ini 'blocks = 2' 'first = 0' &&
    has reduced/lra/image/mra2.ini 'blocks = 8' 'first = 1' && has reduced/lra/text/bigbird.ini 'block = 8' 'variant = specified' &&
    grep -q 'stands in for retrieval' reduced/lra/retrieval/exact.ini
ok $? 'profile reduced scales what counts tokens, and says that retrieval is a stand-in'

refused=0
for file in paper/lra/*/*.ini reduced/lra/*/*.ini laptop/lra/*/*.ini smoke/lra/*/*.ini; do
    "$mra" train "$file" --check --threads 1 >"$work/stdout" 2>"$work/stderr" || {
        note "$file: $(cat "$work/stderr")"
        refused=1
    }
done
ok $refused 'the program accepts every one of them'
echo 'method	config	task	parameters
linformer	linformer/9	listops	linformer_l=9' >bad.tsv
run gawk -v profile=paper -v out=bad -f "$root/experiments/cells/settings.awk" "$root/experiments/cells/profiles.tsv" \
    "$published/lra_tasks.tsv" bad.tsv
[ "$status" -eq 2 ]
ok $? 'a table that is not known is refused'

# ---- Looking at a training -----------------------------------------------------------------------------------------
mkdir empty
run env MRA_DATA=empty "$mra" train reduced/lra/text/exact.ini --check
[ "$status" -eq 0 ] && grep -q '^data	absent: .*MRA_DATA' "$work/stdout" && grep -Eq '^weights	[1-9]' "$work/stdout"
ok $? 'absent data are said, and are no error'
run "$mra" train smoke/lra/listops/exact.ini --estimate --threads 1
[ "$status" -eq 0 ] && awk -F '\t' '$1 == "step_seconds" && $2 > 0 { a = 1 } $1 == "hours" && $2 > 0 { b = 1 } END { exit !(a && b) }' "$work/stdout"
ok $? 'an estimate has the seconds of a step and the hours of the run'
refuses 'settings that are wrong are refused' 'unknown option' "$mra" train smoke/lra/listops/exact.ini attention.nosuch=1 --check
[ ! -e build/train ]
ok $? 'nothing is written'

# ---- Plans and sweeps ----------------------------------------------------------------------------------------------
state() { awk -F '\t' 'NR > 1 { printf "%s ", $3 }' build/plan/smoke.tsv; }
passes 'a plan' script plan --profile smoke --seeds '1 2'
prints 'with its cost' '4 runs; 0 done, 0 begun, 4 to do, 0 without data; about [0-9]* minutes'
[ "$(state)" = 'to-do to-do to-do to-do ' ]
ok $? 'a row for every cell and seed'
passes 'one row' script sweep --profile smoke --row 2
passes 'is planned again' script plan --profile smoke --seeds '1 2' --no-estimate
[ "$(state)" = 'to-do done to-do to-do ' ]
ok $? 'as done'
first=$(cksum <build/cells/smoke/lra/listops/exact/seed-2/weights.safetensors)
passes 'the sweep' script sweep --profile smoke --jobs 2
grep -q 'seed 2: done already' "$work/stderr" && [ "$(grep -c 'accuracy' "$work/stderr")" -eq 3 ]
ok $? 'runs the others and leaves alone what is done'
[ "$(cksum <build/cells/smoke/lra/listops/exact/seed-2/weights.safetensors)" = "$first" ]
ok $? 'whose weights are unchanged'
rm -r build/cells/smoke/lra/listops/exact/seed-1
passes 'a task of a Slurm array' env PROFILE=smoke SLURM_SUBMIT_DIR="$root" SLURM_ARRAY_TASK_ID=1 SLURM_CPUS_PER_TASK=1 \
    sh "$root/experiments/sweep-slurm.sh"
[ -e build/cells/smoke/lra/listops/exact/seed-1/result.tsv ]
ok $? 'runs its row'
run sh "$root/experiments/sweep-slurm.sh"
[ "$status" -eq 2 ] && grep -q 'sbatch --array' "$work/stderr"
ok $? 'outside of Slurm it says how it is submitted'
if command -v parallel >/dev/null; then
    rm -r build/cells/smoke/lra/listops/exact/seed-[12]
    passes 'GNU parallel' script sweep-parallel --profile smoke --jobs 2
    [ -e build/cells/smoke/lra/listops/exact/seed-1/result.tsv ] && [ -e build/cells/smoke/lra/listops/exact/seed-2/result.tsv ]
    ok $? 'runs what is left'
else
    skip 'GNU parallel runs what is left' 'parallel is not installed'
fi
# A run that fails: its folder is a file.
rm -r build/cells/smoke/lra/listops/mra2/seed-1
printf '[data]\nname = listops\nnosuch = 1\n' >build/cells/smoke/lra/listops/mra2.ini
run script sweep --profile smoke --only mra2
[ "$status" -eq 1 ] && grep -q 'nosuch' build/cells/smoke/lra/listops/mra2/seed-1/failed.txt && grep -q 'status 2' "$work/stderr"
ok $? 'a run that fails is said to, and the status tells'
run script sweep --profile smoke --row 9
[ "$status" -eq 2 ] && grep -q '1 to 4' "$work/stderr"
ok $? 'a row that is not there is refused'
run script plan --profile nosuch
[ "$status" -eq 2 ] && grep -q "'nosuch' is not one of" "$work/stderr"
ok $? 'an unknown profile is refused'
run script sweep --profile paper
[ "$status" -eq 2 ] && grep -q 'experiments/plan.sh' "$work/stderr"
ok $? 'a sweep without a plan says how to make one'
finish
