#!/bin/sh
# usage: sh tests/attention/table.sh METHODS [OPERATIONS]
# Prints what the tests left in METHODS (method_case.h, test_padding.c) and in OPERATIONS (tensor/devices.h) as two tables:
# the largest relative difference of each method, and of each operation and kernel, from its definition in float64, on each
# device, over all shapes and, on `simt`, all orders; and, under padding, that of a sequence with a masked tail from the shorter
# one, forward or backward.
set -eu

largest() { # largest HEAD FILE
    [ -s "$2" ] || return 0
    awk -v head="$1" '
        BEGIN {
            columns = split("forward backward mask odd padding", column)
            for (c = 1; c <= columns; c++) known[column[c]]
            printf "\n%-44s %9s %9s %9s %9s %9s\n", head, "forward", "backward", "mask", "odd n", "padding"
        }
        {
            for (i = 1; !($i in known); i++) continue
            name = $1
            for (j = 2; j < i; j++) name = name " " $j
            sub(/, order [0-9]+$/, "", name)
            names[name]
            for (; i <= NF; i++) {
                if (!($i in known)) continue
                cell = $i == "odd" ? $(i + 2) : $(i + 1)
                have = name SUBSEP $i
                if (!(have in most) || most[have] == "-" || cell == "nan" || cell + 0 > most[have] + 0)
                    most[have] = cell
            }
        }
        END {
            for (name in names) {
                printf "%-44s", name | "sort"
                for (c = 1; c <= columns; c++)
                    printf " %9s", ((name, column[c]) in most) ? most[name, column[c]] : "-" | "sort"
                printf "\n" | "sort"
            }
        }' "$2"
}

largest method "$1"
[ $# -lt 2 ] || largest 'operation or kernel' "$2"
