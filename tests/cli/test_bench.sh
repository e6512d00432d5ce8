#!/bin/sh
# `mra bench`: the columns, their order and what can be checked without a clock.
. "$(dirname "$0")/../tap.sh"

column() { # column NAME: that column of the last run's table
    awk -F '\t' -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) c = i; next } { print $c }' \
        "$work/stdout"
}

refuses 'no tokens' "--n: '0k'" "$mra" bench attention --n 64,0k --heads 1 --d 8 --quiet
passes 'mra bench attention' "$mra" bench attention --n 64,1k --heads 2 --d 16 --blocks 2 --repeats 1 --quiet
[ ! -s "$work/stderr" ]
ok $? 'is quiet when told so'
for name in method n heads d blocks forward_ms both_ms peak_mib gflops sgemm_gflops; do
    head -1 "$work/stdout" | tr '\t' '\n' | grep -qx "$name"
    ok $? "has the column $name"
done
[ "$(column method | tr '\n' ' ')" = 'exact mra2 mra2s exact mra2 mra2s ' ]
ok $? 'has a row per size and method'
[ "$(column n | tr '\n' ' ')" = '64 64 64 1024 1024 1024 ' ]
ok $? 'k means 1024'
[ "$(column blocks | tr '\n' ' ')" = '- 2 2 - 2 2 ' ]
ok $? 'says the budget'
for name in forward_ms both_ms peak_mib gflops sgemm_gflops; do
    column $name | awk '!($1 > 0) { exit 1 }'
    ok $? "$name is positive"
done
# gflops * forward_ms is the number of operations: that of exact is known.
awk -F '\t' 'NR == 5 { o = $9 * $6 * 1e6; e = 2 * (4 * 1024 * 1024 * 16 + 2 * 1024 * 1024)
             exit !(o > 0.999 * e && o < 1.001 * e) }' "$work/stdout"
ok $? 'operations of exact attention are 4 n^2 d + 2 n^2 a head'
# 8 arrays of 2 * 1024 * 16 floats are one MiB; a small program and its libraries come on top.
column peak_mib | awk '!($1 > 1 && $1 < 1000) { exit 1 }'
ok $? 'memory is that of a small program'

refuses 'no benchmark named' 'argument is missing' "$mra" bench
refuses 'an unknown benchmark' "'nosuch'" "$mra" bench nosuch
refuses 'an unknown method' 'nosuch' "$mra" bench attention --methods nosuch
refuses 'a budget larger than the matrix, for any of the sizes' 'blocks' \
    "$mra" bench attention --n 1024,64 --heads 1 --d 8 --blocks 9 --quiet
refuses 'too many dimensions' "--d: '257'" "$mra" bench attention --d 257
refuses 'a size that is no number' "--n: '4x'" "$mra" bench attention --n 4x
finish
