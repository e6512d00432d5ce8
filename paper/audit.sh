#!/bin/sh
# Evaluates every claim of paper/claims.tsv on the results of a profile and prints the verdicts.
#
# usage: sh paper/audit.sh [PROFILE]        (make audit; default profile: laptop)
#
# The table goes to build/results/PROFILE/audit.tsv as well. A claim that fails is a result, so the exit status is
# not zero only when the evaluation itself went wrong.
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
