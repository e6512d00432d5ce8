#!/bin/sh
# usage: sh tests/attention/table.sh FILE
# Prints the lines that the methods' tests left in FILE (method_case.h) as one table: the largest relative
# difference of each method from its definition in float64, over all lengths, d = 64 and d = 32.
set -eu
[ -s "$1" ] || exit 0
awk '
    BEGIN { printf "\n%-36s %9s %9s %9s %9s\n", "method", "forward", "backward", "mask", "odd n" }
    {
        for (i = 1; $i != "forward"; i++) continue
        name = $1
        for (j = 2; j < i; j++) name = name " " $j
        printf "%-36s %9s %9s %9s %9s\n", name, $(i + 1), $(i + 3), $(i + 5), $(i + 8) | "sort"
    }' "$1"
