#!/bin/sh
# `mra methods`: the table, and a page for each of its rows.
. "$(dirname "$0")/../tap.sh"

passes 'mra methods' "$mra" methods
for method in exact mra2 mra2s mra; do
    prints "lists $method" "^$method  .*n"
done
names=$(awk 'NR > 1 { print $1 }' "$work/stdout")
for method in $names; do
    passes "mra methods $method" "$mra" methods "$method"
    prints 'says what it is' "^$method: ."
    prints 'says where it was published' '^source  .'
    prints 'says what it costs' '^time    .'
done
run "$mra" methods mra2
prints 'shows an option with its default and range' '^  blocks .*'
prints 'shows a default' 'default 8'
refuses 'an unknown method' "unknown method 'nosuch'" "$mra" methods nosuch
refuses 'two methods' "unexpected argument 'mra2'" "$mra" methods exact mra2
finish
