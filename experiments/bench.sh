#!/bin/sh
# The ratios that matter, measured side by side: how near exact attention comes to the machine's own matrix product, how
# much faster MRA-2 is than that exact attention, how its time grows with the number of tokens, what memory it needs, and
# where every other method of the comparison stands beside exact attention.
#
# usage: sh experiments/bench.sh [--threads N] [--quick]
#
# Prints three tables of `mra bench attention` and two summaries, numbers beside the aims of the suite; --quick stops
# the growth at 16384 tokens and takes the times of the third table once. Everything is measured in this one run: ratios mean the same on every machine, times don't.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
threads=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
longest=65536 repeats=3
while [ $# -gt 0 ]; do
    case $1 in
    --threads)
        [ $# -gt 1 ] || {
            echo "bench: --threads: expected a number" >&2
            exit 2
        }
        threads=$2
        shift 2
        ;;
    --quick) longest=16384 repeats=1; shift ;;
    *)
        echo "bench: $1: unknown option; expected --threads N or --quick" >&2
        exit 2
        ;;
    esac
done
mra=$build/release/bin/mra
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "# one layer of 12 heads x 64, 8 blocks a row, $threads threads"
"$mra" bench attention --n 512,4096 --heads 12 --d 64 --blocks 8 --methods exact,mra2,mra2s --threads "$threads" \
    >"$work/layer.tsv"
cat "$work/layer.tsv"
echo
echo "# growth: one head x 64, 8 blocks a row"
"$mra" bench attention --n "4096,16384$([ "$longest" = 16384 ] || echo ",$longest")" --heads 1 --d 64 --blocks 8 \
    --methods mra2 --threads "$threads" >"$work/growth.tsv"
cat "$work/growth.tsv"
echo
awk -F '\t' '
    FNR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; file++; next }
    file == 1 && $at["n"] == 4096 {
        forward[$at["method"]] = $at["forward_ms"]; both[$at["method"]] = $at["both_ms"]
        if ($at["method"] == "exact") rate = $at["gflops"] / $at["sgemm_gflops"]
    }
    file == 2 { n[++rows] = $at["n"]; time[rows] = $at["both_ms"]; peak = $at["peak_mib"] }
    END {
        print "measure\tvalue\taim"
        printf "exact forward, share of the sgemm rate (n = 4096)\t%.2f\t>= 0.5\n", rate
        printf "mra2 against exact, forward (n = 4096)\t%.1f\t>= 12\n", forward["exact"] / forward["mra2"]
        printf "mra2 against exact, forward + backward (n = 4096)\t%.1f\t>= 8\n", both["exact"] / both["mra2"]
        printf "mra2s against exact, forward (n = 4096)\t%.1f\t-\n", forward["exact"] / forward["mra2s"]
        printf "mra2s against exact, forward + backward (n = 4096)\t%.1f\t-\n", both["exact"] / both["mra2s"]
        printf "growth exponent of mra2, forward + backward, %d to %d tokens\t%.2f\t<= 1.25\n", n[1], n[rows],
            log(time[rows] / time[1]) / log(n[rows] / n[1])
        printf "peak memory at n = %d, one head, forward + backward (MiB)\t%.0f\t%s\n", n[rows], peak,
            n[rows] == 65536 ? "< 477 (500 MB)" : "-"
    }' "$work/layer.tsv" "$work/growth.tsv"

echo
echo "# every method with its default options: one layer of 12 heads x 64, n = 4096"
"$mra" methods | awk 'NR > 1' >"$work/methods"
"$mra" bench attention --n 4096 --heads 12 --d 64 --repeats "$repeats" --threads "$threads" \
    --methods "$(awk '{ printf "%s%s", comma, $1; comma = "," }' "$work/methods")" >"$work/every.tsv"
cat "$work/every.tsv"
echo
# What a method claims is linear where its time has no square of n and no logarithm (`mra methods`, columns at least two
# blanks apart). The share is that of its forward pass: counted operations a second over those of the matrix product.
awk -F '  +' -v OFS='\t' '
    NR == FNR { claim[$1] = $2; next }
    FNR == 1 {
        split($0, name, "\t")
        for (i in name) at[name[i]] = i
        print "method", "claimed time", "forward against exact", "forward + backward against exact", "share of the sgemm rate", "verdict"
        next
    }
    {
        split($0, cell, "\t")
        method = cell[at["method"]]; forward = cell[at["forward_ms"]]; both = cell[at["both_ms"]]
        if (method == "exact") { exact_forward = forward; exact_both = both }
        linear = claim[method] !~ /n\^2|\(n\/[^)]*\)\^2|log/
        rate = cell[at["gflops"]]
        verdict = method == "exact" ? "-" : (both < exact_both ? "faster than exact" : "SLOWER than exact") \
            (linear ? ", claims linear time" : "")
        print method, claim[method], sprintf("%.2f", exact_forward / forward), sprintf("%.2f", exact_both / both), \
            rate == "-" ? "-" : sprintf("%.2f", rate / cell[at["sgemm_gflops"]]), verdict
    }' "$work/methods" "$work/every.tsv"
