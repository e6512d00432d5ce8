#!/bin/sh
# The kernels on this machine's GPU: build, test, look for races, measure, record. One command.
#
# usage: sh experiments/kernels/run.sh [--out DIR] [--device cuda|simt] [--profile NAME] [--no-build] [--no-tests]
#
# 1. make all and the tests (with nvcc the kernels become device code).
# 2. The tests of the operations, the kernels and the methods on the device, and once more, smaller, under
#    compute-sanitizer's memcheck and racecheck where that is installed.
# 3. experiments/kernels.c: tables kernels-operations.tsv, kernels-attention.tsv, kernels-methods.tsv and their run record.
# 4. How many times as fast MRA-2 is as the fastest exact attention of the same run.
#
# Default: device cuda, profile paper, and a folder of experiments/recorded/ that is named after the GPU. With --device simt
# the same steps run on the host runner, profile smoke, into build/results/kernels-simt: that says whether this script and
# the driver work, and nothing about speed. A second run finds the record and measures nothing.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
device=cuda profile='' out='' make=yes tests=yes
usage() {
    echo "kernels/run.sh: $1; expected --out DIR, --device cuda|simt, --profile NAME, --no-build or --no-tests" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case $1 in
    --out | --device | --profile) [ $# -gt 1 ] || usage "$1: expected a value" ;;
    esac
    case $1 in
    --out) out=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --profile) profile=$2; shift 2 ;;
    --no-build) make=; shift ;;
    --no-tests) tests=; shift ;;
    *) usage "$1: unknown option" ;;
    esac
done
case $device in
cuda)
    profile=${profile:-paper}
    MRA_GPU=$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader 2>/dev/null |
        head -n 1) || MRA_GPU=
    if [ -z "$MRA_GPU" ]; then
        echo 'kernels/run.sh: nvidia-smi finds no GPU here: nothing is measured (--device simt tries this script out)' >&2
        exit 2
    fi
    export MRA_GPU
    out=${out:-experiments/recorded/$(echo "$MRA_GPU" | cut -d , -f 1 | tr -cs '[:alnum:]\n' '-' | tr '[:upper:]' '[:lower:]')}
    ;;
simt)
    profile=${profile:-smoke}
    out=${out:-$build/results/kernels-simt}
    ;;
*) usage "--device: '$device'" ;;
esac

programs=
for source in tests/tensor/test_*.c tests/kernels/test_*.c tests/attention/test_*.c; do
    programs="$programs $build/release/${source%.c}"
done
if [ -n "$make" ]; then
    make -j "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)" all
    # shellcheck disable=SC2086  # words
    make -j "$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)" $programs
fi

if [ -n "$tests" ]; then
    export MRA_TEST_DEVICE="$device" CMOCKA_MESSAGE_OUTPUT=TAP OMP_WAIT_POLICY=passive
    export MRA_METHOD_TABLE="$build/methods-$device.txt" MRA_PARITY_TABLE="$build/operations-$device.txt"
    rm -f "$MRA_METHOD_TABLE" "$MRA_PARITY_TABLE"
    # shellcheck disable=SC2086
    prove --merge --timer $programs
    sh tests/attention/table.sh "$MRA_METHOD_TABLE" "$MRA_PARITY_TABLE"
    unset MRA_METHOD_TABLE MRA_PARITY_TABLE
    if [ "$device" = cuda ] && command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck; do
            for program in $programs; do
                echo "compute-sanitizer $tool: $program"
                MRA_SANITIZED=1 compute-sanitizer --tool "$tool" --error-exitcode 3 "$program" >"$build/sanitizer.log" 2>&1 || {
                    tail -n 30 "$build/sanitizer.log" >&2
                    echo "kernels/run.sh: $tool complains of $program" >&2
                    exit 3
                }
            done
        done
    elif [ "$device" = cuda ]; then
        echo 'kernels/run.sh: compute-sanitizer is not installed: no memcheck, no racecheck'
    fi
fi

note=
[ "$device" = cuda ] || note=" (of the host runner: they say nothing about a GPU)"
"$build/release/experiments/kernels" --profile "$profile" --set "device=$device" --out "$out"

awk -F '\t' -v note="$note" '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    {
        for (which = 1; which <= 2; which++) {
            time = $at[which == 1 ? "forward_ms" : "both_ms"]
            if (time == "-") continue
            key = $at["n"] SUBSEP which
            if ($at["method"] ~ /^exact/ && (!(key in exact) || time + 0 < exact[key] + 0)) exact[key] = time
            if ($at["method"] == "mra2" && (!(key in mra) || time + 0 < mra[key] + 0)) mra[key] = time
        }
        if (!($at["n"] in seen)) { seen[$at["n"]]; order[++count] = $at["n"] }
    }
    END {
        print "fastest exact attention over fastest mra2, milliseconds and ratio" note
        for (i = 1; i <= count; i++)
            for (which = 1; which <= 2; which++) {
                key = order[i] SUBSEP which
                if (key in exact && key in mra)
                    printf "n = %-6d %-18s %10s / %-10s = %.2f\n", order[i],
                        which == 1 ? "forward" : "forward + backward", exact[key], mra[key], exact[key] / mra[key]
            }
    }' "$out/kernels-attention.tsv"
