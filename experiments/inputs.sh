#!/bin/sh
# Dumps the trained networks' queries, keys and values into the sets that the figures are drawn from.
#
# usage: sh experiments/inputs.sh [OUT]        (default: paper/inputs)
#
# Needs the two trainings of REPRODUCE.md ("Trained inputs") in build/train.
set -eu
cd "$(dirname "$0")/.."
out=${1:-paper/inputs}
mra=build/bin/mra

# set RUN LENGTH EXAMPLES: one folder of arrays.
set_of() {
    "$mra" dump "build/train/inputs-$1" --split test --length "$2" --examples "$3" --out "$out/$1-$2"
}
set_of listops 512 3
set_of listops 1984 1
set_of text 512 3
set_of text 4096 1
# What the trainings had reached, for the page: their results, logs and run records.
for name in listops text; do
    for file in result.tsv log.tsv run.json; do
        cp "build/train/inputs-$name/$file" "$out/$name-training-$file"
    done
done
du -sk "$out" | awk '{ printf "inputs: %.1f MiB\n", $1 / 1024 }'
