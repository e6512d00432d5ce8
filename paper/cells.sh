#!/bin/sh
# Collects what the trainings of the tables reached, live and recorded, into tables of a profile's results.
#
# usage: sh paper/cells.sh [PROFILE]        (called by experiments/reproduce.sh; default profile: laptop)
#
# Runs are looked for in build/cells (this machine) and experiments/recorded/*/cells. Writes into build/results/PROFILE what
# paper/cells.awk says, and curves.tsv, the logs of all runs in one table.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build} profile=${1:-laptop}
results=$build/results/$profile
mkdir -p "$results"
work=$(mktemp -d)
list=$work/list
mkdir "$work/tables"
trap 'rm -rf "$work"' EXIT
for folder in "$build/cells" experiments/recorded/*/cells; do
    [ ! -d "$folder" ] || find "$folder" -name result.tsv | sort
done >"$list"
# shellcheck disable=SC2046  # names of cells have no blanks
gawk -v profile="$profile" -v out="$work/tables" -f paper/cells.awk $(cat "$list") </dev/null
# shellcheck disable=SC2016  # the program is awk's
sed 's/result\.tsv$/log.tsv/' "$list" | xargs gawk -F '\t' -v OFS='\t' '
    BEGIN { print "profile", "task", "method", "seed", "step", "split", "loss", "accuracy" }
    FNR == 1 {
        for (i = 1; i <= NF; i++) column[$i] = i
        n = split(FILENAME, part, "/"); run = part[n - 5] "\t" part[n - 3] "\t" part[n - 2] "\t" substr(part[n - 1], 6)
        if (run in seen) nextfile
        seen[run] = 1; next
    }
    { print run, $column["step"], $column["split"], $column["loss"], $column["accuracy"] }' >"$work/tables/curves.tsv"
# A table that is as it was keeps its time, so that figures are not drawn anew.
for table in "$work"/tables/*.tsv; do
    cmp -s "$table" "$results/${table##*/}" || cp "$table" "$results/"
done
