#!/bin/sh
# usage: sh tests/attention/table.sh FILE
# Prints the lines that the methods' tests left in FILE (method_case.h, test_padding.c) as one table: the largest
# relative difference of each method from its definition in float64, over all lengths, d = 64 and d = 32; and, under
# padding, that of a sequence with a masked tail from the shorter one, forward or backward.
set -eu
[ -s "$1" ] || exit 0
awk '
    BEGIN {
        columns = split("forward backward mask odd padding", column)
        printf "\n%-36s %9s %9s %9s %9s %9s\n", "method", "forward", "backward", "mask", "odd n", "padding"
    }
    {
        for (i = 1; $i != "forward" && $i != "padding"; i++) continue
        name = $1
        for (j = 2; j < i; j++) name = name " " $j
        for (; i <= NF; i++) {
            cell = $i == "odd" ? $(i + 2) : $(i + 1)
            for (c = 1; c <= columns; c++) if ($i == column[c]) value[name, c] = cell
        }
        names[name]
    }
    END {
        for (name in names) {
            printf "%-36s", name | "sort"
            for (c = 1; c <= columns; c++)
                printf " %9s", ((name, c) in value) ? value[name, c] : "-" | "sort"
            printf "\n" | "sort"
        }
    }' "$1"
