#!/bin/sh
# `mra audit`: one row per head, method and budget, and the numbers in it.
. "$(dirname "$0")/../tap.sh"

npy q.npy f4 2,100,16 '2 * r(i, 1)'
npy k.npy f4 2,100,16 '2 * r(i, 2)'
npy v.npy f4 2,100,16 'r(i, 3)'

column() { # column NAME: that column of the last run's table
    awk -F '\t' -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) c = i; next } { print $c }' \
        "$work/stdout"
}

passes 'mra audit' "$mra" audit --q q.npy --k k.npy --v v.npy --methods exact,mra2,mra2s --budgets 1,2,4 --repeats 1 --quiet
[ ! -s "$work/stderr" ]
ok $? 'is quiet when told so'
head -1 "$work/stdout" | grep -q '^batch	head	method	blocks	n	d	entropy	relative_error	forward_ms	both_ms	peak_bytes	certified_error$'
ok $? 'begins with the names of the columns'
[ "$(wc -l <"$work/stdout")" -eq 15 ]
ok $? 'has a row for each of 2 heads, 3 methods and 3 budgets (exact has none)'
awk -F '\t' 'NF != 12 { bad = 1 } END { exit bad }' "$work/stdout"
ok $? 'every row has every column'
[ "$(column method | tr '\n' ' ')" = 'exact mra2 mra2 mra2 mra2s mra2s mra2s exact mra2 mra2 mra2 mra2s mra2s mra2s ' ]
ok $? 'methods come in their order'
[ "$(column blocks | head -7 | tr '\n' ' ')" = '- 1 2 4 1 2 4 ' ]
ok $? 'budgets come in their order'
column relative_error | head -1 | awk '{ exit !($1 == 0) }'
ok $? 'exact against itself: no error'
column relative_error | sed -n '2,4p' | awk '{ e[NR] = $1 } END { exit !(e[1] > e[2] && e[2] > 0.001 && e[3] < 1e-5) }'
ok $? 'the error falls as the budget grows, to nothing when all blocks are refined'
column both_ms | awk '!($1 > 0) { exit 1 }'
ok $? 'times are positive'
column peak_bytes | awk '!($1 >= 100 * 16 * 4) { exit 1 }'
ok $? 'memory holds at least the output'
[ "$(column certified_error | head -1)" = - ]
ok $? 'exact attention has no certificate'
paste "$work/stdout" | awk -F '\t' 'NR > 1 && $12 != "-" && !($12 == "inf" || $12 + 0 >= $8) { bad = 1 } END { exit bad }'
ok $? 'no relative error exceeds its certificate'
column certified_error | sed -n 4p | awk '{ exit !($1 < 5e-3) }'
ok $? 'a certificate for what is refined throughout is rounding alone'

# Entropy by its definition, head 0.
values q.npy | head -1600 >"$work/q.txt"
values k.npy | head -1600 >"$work/k.txt"
entropy=$(paste "$work/q.txt" "$work/k.txt" | awk '
    { q[NR - 1] = $1; k[NR - 1] = $2 }
    END {
        for (i = 0; i < 100; i++) {
            sum = 0
            for (j = 0; j < 100; j++) {
                s = 0
                for (c = 0; c < 16; c++) s += q[i * 16 + c] * k[j * 16 + c]
                p[j] = exp(s / 4)
                sum += p[j]
            }
            for (j = 0; j < 100; j++) h -= p[j] / sum * log(p[j] / sum)
        }
        printf "%.9g", h / 100
    }')
column entropy | head -1 | awk -v e="$entropy" '{ d = $1 - e; exit !(d < 2e-5 * e && -d < 2e-5 * e) }'
ok $? "entropy of head 0 is $entropy, the definition"

passes 'without values and with a mask' "$mra" audit --q q.npy --k k.npy --methods mra2 --budgets 1 --repeats 1 --quiet
column relative_error | head -1 >"$work/one"
run "$mra" audit --q q.npy --k k.npy --methods mra2 --budgets 1 --repeats 1 --quiet --seed 7
column relative_error | head -1 >"$work/other"
! cmp -s "$work/one" "$work/other"
ok $? 'the seed chooses the values'

npy mask.npy u1 100 'i < 70'
passes 'a mask' "$mra" audit --q q.npy --k k.npy --v v.npy --mask mask.npy --methods exact,mra2 --budgets 2 --repeats 1 --quiet
column entropy | awk '!($1 < log(70)) { exit 1 }'
ok $? 'makes the entropy that of the unmasked tokens'

npy bq.npy f4 2,1,100,16 '2 * r(i, 1)'
npy bk.npy f4 2,1,100,16 '2 * r(i, 2)'
npy bmask.npy u1 2,100 'i < 170'
passes 'two sequences' "$mra" audit --q bq.npy --k bk.npy --mask bmask.npy --methods exact --repeats 1 --quiet
[ "$(column batch | tr '\n' ' ')" = '0 1 ' ] && [ "$(column head | tr '\n' ' ')" = '0 0 ' ]
ok $? 'are told apart'
column entropy | awk -v e="$entropy" 'NR == 1 && !($1 < 1.0001 * e && $1 > 0.9999 * e) { exit 1 }'
ok $? 'and the first one sees nothing of the second'

npy bv.npy f4 2,1,100,16 'r(i, 3)'
npy lq.npy f4 100,16 '2 * r(i + 1600, 1)'
npy lk.npy f4 100,16 '2 * r(i + 1600, 2)'
npy lv.npy f4 100,16 'r(i + 1600, 3)'
npy lmask.npy u1 100 'i < 70'
passes 'two sequences with values' "$mra" audit --q bq.npy --k bk.npy --v bv.npy --mask bmask.npy \
    --methods mra2 --budgets 1 --repeats 1 --quiet
{ column entropy && column relative_error; } | sed -n '2p;4p' >"$work/one"
passes 'the second one alone' "$mra" audit --q lq.npy --k lk.npy --v lv.npy --mask lmask.npy \
    --methods mra2 --budgets 1 --repeats 1 --quiet
{ column entropy && column relative_error; } >"$work/other"
cmp -s "$work/one" "$work/other"
ok $? 'has the same entropy and error'

passes 'settings for one method' "$mra" audit --q q.npy --k k.npy --methods mra2,mra2s \
    --budgets 1 --set mra2.first=1 --repeats 1 --quiet

npy nan.npy f4 2,100,16 'i == 3000 ? nan() : r(i, 4)'
npy short.npy f4 2,99,16 'r(i, 4)'
refuses 'a NaN' 'nan\.npy.*3000|nan\.npy.*1, 87, 8' "$mra" audit --q q.npy --k nan.npy
refuses 'shapes that differ' 'short\.npy.*2, 99, 16.*q\.npy.*2, 100, 16' "$mra" audit --q q.npy --k short.npy
refuses 'an unknown method' 'nosuch' "$mra" audit --q q.npy --k k.npy --methods exact,nosuch
refuses 'a budget larger than the matrix, before anything is printed' 'blocks' \
    "$mra" audit --q q.npy --k k.npy --methods mra2 --budgets 1,5 --quiet
refuses 'a budget that is no number' 'blocks' "$mra" audit --q q.npy --k k.npy --methods mra2 --budgets 1,x
refuses 'an empty budget' '--budgets' "$mra" audit --q q.npy --k k.npy --methods mra2 --budgets 1,,2
refuses 'a setting that no method has' 'bogus=1' "$mra" audit --q q.npy --k k.npy --methods mra2 --set bogus=1
refuses 'no repeats' '--repeats' "$mra" audit --q q.npy --k k.npy --repeats 0
finish
