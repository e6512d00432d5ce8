#!/bin/sh
# `mra attend`: right answers on every kind of input, one clear line on every kind of bad input.
. "$(dirname "$0")/../tap.sh"

npy q.npy f4 40,8 '2 * r(i, 1)'
npy k.npy f4 40,8 '2 * r(i, 2)'
npy v.npy f4 40,8 'r(i, 3)'
for x in q k v; do values $x.npy >"$work/$x.txt"; done
attention 40 8 "$work/q.txt" "$work/k.txt" "$work/v.txt" - - >"$work/z.txt"

# ---- Right answers

passes 'exact attention runs' "$mra" attend --method exact --q q.npy --k k.npy --v v.npy --out z.npy
close_to z.npy "$work/z.txt" 1e-6
ok $? 'exact attention is the definition'
[ "$(shape_of z.npy)" = '40, 8' ] && [ "$(type_of z.npy)" = '<f4' ]
ok $? 'the output has the shape of the queries and is float32'
[ -z "$(cat "$work/stdout" "$work/stderr")" ]
ok $? 'nothing is printed'

passes 'options as --name=value' "$mra" attend --method=exact --q=q.npy --k=k.npy --v=v.npy --out=y.npy
cmp -s y.npy z.npy
ok $? 'and the result is the same'

passes 'mra2 with every block' "$mra" attend --method mra2 --set blocks=2 --q q.npy --k k.npy --v v.npy --out y.npy
close_to y.npy "$work/z.txt" 1e-6
ok $? 'mra2 with every block refined is exact'
passes 'mra2 with one block' "$mra" attend --method mra2 --set blocks=1 --q q.npy --k k.npy --v v.npy --out y.npy
! close_to y.npy "$work/z.txt" 1e-4 >"$work/why"
ok $? 'mra2 with one block a row is not'

for threads in 1 2 4; do
    "$mra" attend --threads $threads --method mra2 --set blocks=1 --q q.npy --k k.npy --v v.npy --out t.npy &&
        cmp -s t.npy y.npy
    ok $? "the same bits on $threads threads"
done

# ---- Devices

# `simt` computes with the kernels of the GPU on the host; `cuda` needs one.
"$mra" attend --method longformer --set window=4 --q q.npy --k k.npy --v v.npy --out y.npy
passes 'the kernels on the host runner' \
    "$mra" attend --method longformer --set window=4 --device simt --q q.npy --k k.npy --v v.npy --out t.npy
values y.npy >"$work/y.txt"
close_to t.npy "$work/y.txt" 1e-5
ok $? 'give what the cpu gives'
passes 'products rounded to bf16' \
    "$mra" attend --method longformer --set window=4 --device simt:bf16 --q q.npy --k k.npy --v v.npy --out t.npy
refuses 'a precision that there is none of' "'bf17'.*float32, tf32 or bf16" \
    "$mra" attend --method exact --device simt:bf17 --q q.npy --k k.npy --v v.npy --out bad.npy
refuses 'a precision of the cpu' 'cpu has float32 alone' \
    "$mra" attend --method exact --device cpu:bf16 --q q.npy --k k.npy --v v.npy --out bad.npy
refuses 'heads that the kernels have no code for' 'd: 8: .*32, 64 and 128' \
    "$mra" attend --method mra2 --device simt --q q.npy --k k.npy --v v.npy --out bad.npy
if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    skip 'a GPU that is not there' 'there is one'
else
    refuses 'a GPU that is not there' "device 'cuda': " \
        "$mra" attend --method longformer --device cuda --q q.npy --k k.npy --v v.npy --out bad.npy
fi

# ---- Certificates

passes 'a certificate' "$mra" attend --method mra2 --set blocks=1 --q q.npy --k k.npy --v v.npy --out y.npy --certify bound.npy
[ "$(shape_of bound.npy)" = '40,' ] && [ "$(head -1 "$work/stdout" | cut -f3)" = certified_relative ]
ok $? 'has a number for each row and a line for each head'
values y.npy | paste - "$work/z.txt" | awk '{ d = $1 - $2; e += d * d } NR % 8 == 0 { printf "%.9g\n", sqrt(e); e = 0 }' >"$work/off"
values bound.npy | paste - "$work/off" | awk '!($2 <= $1 + 1e-7) { bad = 1 } END { exit bad || NR != 40 }'
ok $? 'no row is farther from exact attention than its bound'
passes 'a tolerance' "$mra" attend --method mra2 --tolerance 0.01 --q q.npy --k k.npy --v v.npy --out y.npy --certify bound.npy
close_to y.npy "$work/z.txt" 1e-2
ok $? 'is met'
refuses 'a certificate of a method that has none' 'exact has no certificate' \
    "$mra" attend --method exact --q q.npy --k k.npy --v v.npy --out y.npy --certify bound.npy
refuses 'a tolerance for another method' 'expected the method mra2' \
    "$mra" attend --method mra2s --tolerance 0.01 --q q.npy --k k.npy --v v.npy --out y.npy

npy q2.npy f2 2,3,20,8 '2 * r(i, 1)'
npy k8.npy f8 2,3,20,8 '2 * r(i, 2)'
npy v4.npy f4 2,3,20,8 'r(i, 3)'
passes '[batch, heads, n, d] of float16, float64, float32' \
    "$mra" attend --method exact --q q2.npy --k k8.npy --v v4.npy --out z4.npy
[ "$(shape_of z4.npy)" = '2, 3, 20, 8' ]
ok $? 'keeps its shape'
# Head 4 alone: heads do not see each other.
npy q4.npy f4 20,8 '2 * r(i + 640, 1)'
npy k4.npy f4 20,8 '2 * r(i + 640, 2)'
npy w4.npy f4 20,8 'r(i + 640, 3)'
for x in q4 k4 w4; do values $x.npy >"$work/$x.txt"; done
attention 20 8 "$work/q4.txt" "$work/k4.txt" "$work/w4.txt" - - >"$work/z4.txt"
values z4.npy | sed -n '641,800p' | paste - "$work/z4.txt" |
    awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 2e-3)) exit 1 } END { if (NR != 160) exit 1 }'
ok $? 'head 4 of the array is head 4 alone (up to the rounding of float16)'

npy h.npy f4 1,40,8 '2 * r(i, 1)'
npy hk.npy f4 1,40,8 '2 * r(i, 2)'
npy hv.npy f4 1,40,8 'r(i, 3)'
passes '[heads, n, d]' "$mra" attend --method exact --q h.npy --k hk.npy --v hv.npy --out hz.npy
[ "$(shape_of hz.npy)" = '1, 40, 8' ] && close_to hz.npy "$work/z.txt" 1e-6
ok $? 'is the same attention in the same shape'

npy mask.npy u1 40 'i % 3 != 1 && i < 35'
i=0
while [ $i -lt 40 ]; do
    [ $((i % 3)) -ne 1 ] && [ $i -lt 35 ] && echo 1 || echo 0
    i=$((i + 1))
done >"$work/mask.txt"
attention 40 8 "$work/q.txt" "$work/k.txt" "$work/v.txt" "$work/mask.txt" - >"$work/masked.txt"
passes 'a mask' "$mra" attend --method exact --q q.npy --k k.npy --v v.npy --mask mask.npy --out m.npy
close_to m.npy "$work/masked.txt" 1e-6
ok $? 'hides keys and zeroes rows'

# Two sequences: the second one's rows come from its own queries and its own row of the mask.
npy b.npy f4 2,1,40,8 '2 * r(i, 1)'
npy b1.npy f4 40,8 '2 * r(i + 320, 1)'
npy bmask.npy u1 2,40 'i < 40 ? i % 2 : i % 3 == 0'
npy bmask1.npy u1 40 '(i + 40) % 3 == 0'
passes 'a mask for each sequence' "$mra" attend --method exact --q b.npy --k b.npy --v b.npy --mask bmask.npy --out bz.npy
passes 'the second sequence alone' "$mra" attend --method exact --q b1.npy --k b1.npy --v b1.npy --mask bmask1.npy --out bz1.npy
values bz.npy | tail -320 >"$work/bz1.txt"
close_to bz1.npy "$work/bz1.txt" 1e-7
ok $? 'is the second half of both'
passes 'one mask for all' "$mra" attend --method exact --q b.npy --k b.npy --v b.npy --mask bmask1.npy --out bz.npy
values bz.npy | tail -320 >"$work/bz1.txt"
close_to bz1.npy "$work/bz1.txt" 1e-7
ok $? 'is that mask for the second sequence too'

passes 'an output may replace an input' "$mra" attend --method exact --q q.npy --k k.npy --v v.npy --out y.npy

# ---- Bad input

attend() {
    "$mra" attend --method mra2 --q "$1" --k "$2" --v "$3" --out bad.npy
}
npy short.npy f4 39,8 'r(i, 4)'
npy flat.npy f4 320 'r(i, 4)'
npy five.npy f4 1,1,1,40,8 'r(i, 4)'
npy none.npy f4 0,8 'r(i, 4)'
npy nan.npy f4 40,8 'i == 77 ? nan() : r(i, 4)'
npy inf.npy f4 40,8 'i == 5 ? inf() : r(i, 4)'
npy bytes.npy u1 40,8 'i % 7'
npy wide.npy f4 2,300 'r(i, 4)'
: >empty.npy
head -c 700 q.npy >cut.npy
head -c 40 q.npy >head.npy
{ cat q.npy; echo more; } >long.npy
echo 'this is no array' >text.npy

refuses 'a missing file' 'nowhere\.npy' attend nowhere.npy k.npy v.npy
refuses 'an empty file' 'empty\.npy' attend q.npy empty.npy v.npy
refuses 'a truncated array' 'cut\.npy' attend q.npy k.npy cut.npy
refuses 'a truncated header' 'head\.npy' attend head.npy k.npy v.npy
refuses 'something after the array' 'long\.npy' attend long.npy k.npy v.npy
refuses 'a file that is no array' 'text\.npy' attend text.npy k.npy v.npy
refuses 'a folder as input' '\.' attend . k.npy v.npy
refuses 'a NaN, with file and index' 'nan\.npy.*(77|9, *5)' attend q.npy k.npy nan.npy
refuses 'an infinity, with file and index' 'inf\.npy.*5' attend q.npy inf.npy v.npy
refuses 'another length of keys, with both names and shapes' \
    'short\.npy.*39, 8.*q\.npy.*40, 8' attend q.npy short.npy v.npy
refuses 'another rank of values' 'v4\.npy.*2, 3, 20, 8.*q\.npy.*40, 8' attend q.npy k.npy v4.npy
refuses 'rank 1' 'flat\.npy.*320.*expected \[n, d\]' attend flat.npy flat.npy flat.npy
refuses 'rank 5' 'five\.npy' attend five.npy five.npy five.npy
refuses 'no tokens' 'none\.npy' attend none.npy none.npy none.npy
refuses 'more than 256 dimensions' '256' attend wide.npy wide.npy wide.npy
refuses 'bytes instead of numbers' 'bytes\.npy' attend bytes.npy k.npy v.npy

base="--q q.npy --k k.npy --v v.npy --out bad.npy"
npy mask2.npy u1 39 '1'
npy mask3.npy i4 40 'i == 3 ? 2 : 1'
npy mask4.npy u1 2,40 '1'
# shellcheck disable=SC2086  # $base is words
{
    refuses 'a mask of another length' 'mask2\.npy.*39.*q\.npy.*40, 8' \
        "$mra" attend --method mra2 $base --mask mask2.npy
    refuses 'a mask for another batch' 'mask4\.npy.*2, 40' "$mra" attend --method mra2 $base --mask mask4.npy
    refuses 'a mask with a 2' 'mask3\.npy' "$mra" attend --method mra2 $base --mask mask3.npy
    refuses 'an unknown method' 'nosuch' "$mra" attend --method nosuch $base
    refuses 'an unknown option of the method' 'bogus' "$mra" attend --method mra2 --set bogus=1 $base
    refuses 'a value that is no number' 'blocks' "$mra" attend --method mra2 --set blocks=many $base
    refuses 'a negative budget' 'blocks' "$mra" attend --method mra2 --set blocks=-1 $base
    refuses 'a budget larger than the matrix' 'blocks' "$mra" attend --method mra2 --set blocks=3 $base
    refuses 'a setting without =' 'blocks' "$mra" attend --method mra2 --set blocks $base
    refuses 'an unknown device' 'abacus' "$mra" attend --method mra2 --device abacus $base
    refuses 'an unknown option' '--wrong.*--help' "$mra" attend --method mra2 --wrong $base
    refuses 'an argument too many' "'extra'" "$mra" attend --method mra2 extra $base
    refuses 'an option given twice' '--q is given twice' "$mra" attend --method mra2 $base --q k.npy
}
refuses 'a missing option' '--out' "$mra" attend --method mra2 --q q.npy --k k.npy --v v.npy
refuses 'an option without its value' '--out' "$mra" attend --method mra2 --q q.npy --k k.npy --v v.npy --out
finish
