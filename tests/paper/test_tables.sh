#!/bin/sh
# The tables of chapters (paper/expand.awk): columns in the order asked for, and two files joined.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}

mkdir results
printf 'name\tkind\terror\na\tx\t0.5\na\ty\t0.25\nb\t-\t2\n' >results/one.tsv
printf 'name\tother\tkind\tscore\na\tp\ty\t1\na\tq\ty\t4\nb\tr\tx\t7\n' >results/two.tsv
rows() { # rows DIRECTIVE: the table's rows, without its rule
    printf '%s\n' "$1" >chapter.md
    gawk -v results=results -v figures=. -v root="$root" -v code=0 -f "$root/paper/expand.awk" chapter.md | grep '^|' | grep -v '^|--' |
        tr -d ' ' | tr '\n' ';'
}
is() { # is DESCRIPTION FOUND EXPECTED
    [ "$2" = "$3" ]
    tap_result=$?
    ok $tap_result "$1"
    [ $tap_result -eq 0 ] || note "'$2' instead of '$3'"
}

is 'columns come in the order asked for, relabelled' "$(rows '@table one.tsv | caption | error=off name')" \
    '|off|name|;|0.5|a|;|0.25|a|;|2|b|;'
is 'two files are joined where all that both have agrees, by means' \
    "$(rows '@table one.tsv + two.tsv | caption | name kind error score rows_joined=n')" \
    '|name|kind|error|score|n|;|a|x|0.5|-|-|;|a|y|0.25|2.5|2|;|b|-|2|-|-|;'
is 'a file that is not there is said to be missing' "$(rows '@table one.tsv + three.tsv | caption | name')" ''
finish
