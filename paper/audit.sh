#!/bin/sh
# Evaluates every claim of paper/claims.tsv on the results of a profile and prints the verdicts.
#
# usage: sh paper/audit.sh [PROFILE]        (make audit; default profile: laptop)
#
# The table goes to build/results/PROFILE/audit.tsv as well. Below the verdicts: greedy selection against the best possible, the
# paper's ranking against the improved one at equal time, and what the certificates are worth. A claim that fails is a result, so
# the exit status is not zero only when the evaluation itself went wrong.
set -eu
cd "$(dirname "$0")/.."
profile=${1:-laptop}
results=build/results/$profile
[ -d "$results" ] || {
    echo "audit: $results: no results yet; run: make reproduce PROFILE=$profile" >&2
    exit 2
}
gawk -v results="$results" -v published=paper/published -f paper/audit.awk paper/claims.tsv >"$results/audit.tsv.tmp"
mv "$results/audit.tsv.tmp" "$results/audit.tsv"
gawk -F'\t' 'NR > 1 { count[$2]++; printf "%-18s %-28s %10s %-2s %-10s %s\n", $2, $1, $3, $4, $5, $6 }
    END { printf "\n%d hold, %d fail, %d not measured here\n", count["holds"], count["fails"], count["not measured here"] }' \
    "$results/audit.tsv"

# summary DIRECTIVE: a table of the book as text.
summary() {
    markdown=$(printf '%s\n' "$1" | gawk -v results="$results" -v figures=none -v root=. -v code=0 -f paper/expand.awk)
    printf '%s\n' "$markdown" | gawk -f paper/plain.awk
}
summary '@pivot optimal-mean.tsv | Greedy selection (row) against the oracle, the optimal tree and other kinds with as many numbers: relative error of the softmax matrix, mean over trained heads | approach coefficient | blocks=mean'
summary '@table optimal-equal-time.tsv | MRA-2 against its ranking by spread at equal time (forward and backward): relative error of the output | set n blocks both_ms=ms error rival_blocks=blocks_by_spread rival_error=error_by_spread'
summary '@pivot certificate-mean.tsv | Certificates: median over rows of the certified over the true error, mean over trained heads whose logits are multiplied by t | t | blocks=mean'
