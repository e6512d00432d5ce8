#!/bin/sh
# Runs what a plan lists: the trainings of a profile's tables.
#
# usage: sh experiments/sweep.sh [--profile NAME] [--jobs J] [--threads N] [--only TEXT] [--row N]
#
# Needs build/plan/PROFILE.tsv (experiments/plan.sh). J runs at a time, each with N threads (1 and 1 unless given). What is done is
# skipped; a run that was stopped or killed continues from its checkpoint, so this may be interrupted and started again, on
# several machines also, each with a plan of its own rows. --only: the cells whose name has TEXT in it. --row: the plan's row N alone (from 1),
# as the sweeps through GNU parallel and Slurm call it. A run that fails leaves FOLDER/failed.txt; the others go on, and the status is 1.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
profile=laptop jobs=1 threads=1 only='' row=''
while [ $# -gt 0 ]; do
    case $1 in
    --profile | --jobs | --threads | --only | --row)
        [ $# -gt 1 ] || {
            echo "sweep: $1: expected a value" >&2
            exit 2
        }
        ;;
    esac
    case $1 in
    --profile) profile=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --row) row=$2; shift 2 ;;
    *)
        echo "sweep: $1: unknown option; expected --profile, --jobs, --threads, --only or --row" >&2
        exit 2
        ;;
    esac
done
plan=$build/plan/$profile.tsv
[ -e "$plan" ] || {
    echo "sweep: $plan is not there; make it with: sh experiments/plan.sh --profile $profile" >&2
    exit 2
}
runs=$(($(wc -l <"$plan") - 1))
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

# field N COLUMN: of the plan's row N.
field() { awk -F '\t' -v row="$1" -v column="$2" 'NR == row + 1 { print $column }' "$plan"; }

# run_row N: one run to its end; says in one line what came of it.
run_row() {
    cell=$(field "$1" 1) seed=$(field "$1" 2) settings=$(field "$1" 5) folder=$(field "$1" 6)
    name="[$1/$runs] $cell, seed $seed"
    if [ -e "$folder/result.tsv" ] && [ -z "$(find "$settings" -newer "$folder/result.tsv")" ]; then
        echo "$name: done already" >&2
        return 0
    fi
    mkdir -p "$folder"
    rm -f "$folder/failed.txt"
    code=0
    "$build/release/bin/mra" train "$settings" --seed "$seed" --out "$folder" --threads "$threads" --quiet \
        >"$folder/output.txt" 2>"$folder/error.txt" || code=$?
    if [ $code -ne 0 ]; then
        tail -n 1 "$folder/error.txt" >"$folder/failed.txt"
        echo "$name: status $code: $(cat "$folder/failed.txt")" >&2
        return 1
    fi
    rm -f "$folder/error.txt"
    awk -F '\t' -v name="$name" '$1 == "test" { printf "%s: accuracy %.4f, most frequent answer %.4f\n", name, $3, $4 }' \
        "$folder/output.txt" >&2
}

if [ -n "$row" ]; then
    case $row in
    *[!0-9]* | 0*) row=0 ;;
    esac
    if [ "$row" -lt 1 ] || [ "$row" -gt "$runs" ]; then
        echo "sweep: --row: expected a row of $plan, 1 to $runs" >&2
        exit 2
    fi
    run_row "$row"
    exit
fi
awk -F '\t' -v only="$only" 'NR > 1 && index($1, only) && $3 != "no-data" { print NR - 1 }' "$plan" |
    xargs -r -n 1 -P "$jobs" sh experiments/sweep.sh --profile "$profile" --threads "$threads" --row || {
    echo "sweep: some runs failed; the lines above say which, FOLDER/error.txt has what they said" >&2
    exit 1
}
