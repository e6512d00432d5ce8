#!/bin/sh
# The runs of a plan through GNU parallel, on this machine or on several.
#
# usage: sh experiments/sweep-parallel.sh [--profile NAME] [--threads N] [options of parallel]...
#
#     sh experiments/sweep-parallel.sh --profile reduced --jobs 2 --bar
#     sh experiments/sweep-parallel.sh --profile paper --sshloginfile machines --workdir "$PWD"
#
# Needs build/plan/PROFILE.tsv (experiments/plan.sh). Over several machines the checkout and build/ lie on a file system that all of
# them see, and the data where MRA_DATA says. What is done is skipped, what was begun continues; parallel's log of the jobs is
# build/plan/PROFILE.jobs.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
profile=laptop threads=1
while [ $# -gt 1 ]; do
    case $1 in
    --profile) profile=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    *) break ;;
    esac
done
plan=$build/plan/$profile.tsv
[ -e "$plan" ] || {
    echo "sweep-parallel: $plan is not there; make it with: sh experiments/plan.sh --profile $profile" >&2
    exit 2
}
command -v parallel >/dev/null || {
    echo "sweep-parallel: GNU parallel is not installed (Debian: apt-get install parallel); experiments/sweep.sh --jobs N needs only xargs" >&2
    exit 2
}
awk -F '\t' 'NR > 1 && $3 != "no-data" { print NR - 1 }' "$plan" |
    parallel --env MRA_DATA --env BUILD --joblog "$build/plan/$profile.jobs" "$@" \
        "sh experiments/sweep.sh --profile $profile --threads $threads --row {}"
