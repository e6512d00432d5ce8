#!/bin/sh
# `mra methods`: the table, and a page for each of its rows.
. "$(dirname "$0")/../tap.sh"

passes 'mra methods' "$mra" methods
for method in exact mra2 mra2s mra linformer performer nystromformer soft longformer bigbird; do
    prints "lists $method" "^$method  .*n"
done
names=$(awk 'NR > 1 { print $1 }' "$work/stdout")
for method in $names; do
    passes "mra methods $method" "$mra" methods "$method"
    prints 'says what it is' "^$method: ."
    prints 'says where it was published' '^source  .'
    prints 'says what it costs' '^time    .'
    awk '/^time  / { exit !(paragraphs >= 1 && words > 15) } NF == 0 { next } NR > 2 { paragraphs++; words += NF }' "$work/stdout"
    ok $? 'describes it'
    prints 'says what it learns' '^learns( nothing|, in such a layer)'
    prints 'and what it draws' '^draws (nothing|with --seed)'
done
run "$mra" methods linformer
prints 'a learned parameter has its shape and its beginning' \
    '^  projection +float32 \[12, 256, 4096\]; begins as N\(0, 0.0625\^2\)'
run "$mra" methods bigbird
prints 'so has what is drawn' '^  blocks +int32 \[12, 128, 2\]'
run "$mra" methods mra2
prints 'shows an option with its default and range' '^  blocks .*'
prints 'shows a default' 'default 8'
refuses 'an unknown method' "unknown method 'nosuch'" "$mra" methods nosuch
refuses 'two methods' "unexpected argument 'mra2'" "$mra" methods exact mra2
finish
