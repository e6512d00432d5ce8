#!/bin/sh
# `mra grad`: the gradients of the definition, and outputs that appear all together or not at all.
. "$(dirname "$0")/../tap.sh"

npy q.npy f4 37,6 '2 * r(i, 1)'
npy k.npy f4 37,6 '2 * r(i, 2)'
npy v.npy f4 37,6 'r(i, 3)'
npy g.npy f4 37,6 'r(i, 4)'
for x in q k v g; do values $x.npy >"$work/$x.txt"; done
attention 37 6 "$work/q.txt" "$work/k.txt" "$work/v.txt" - "$work/g.txt" >"$work/all.txt"
attention 37 6 "$work/q.txt" "$work/k.txt" "$work/v.txt" - - >"$work/z.txt"
sed -n '1,222p' "$work/all.txt" >"$work/dq.txt"
sed -n '223,444p' "$work/all.txt" >"$work/dk.txt"
sed -n '445,666p' "$work/all.txt" >"$work/dv.txt"

grad() {
    "$mra" grad --q q.npy --k k.npy --v v.npy --dout g.npy "$@"
}
passes 'exact gradients' grad --method exact --dq dq.npy --dk dk.npy --dv dv.npy --out z.npy
for x in dq dk dv z; do
    close_to $x.npy "$work/$x.txt" 1e-5
    ok $? "$x is the definition"
done
[ "$(shape_of dk.npy)" = '37, 6' ]
ok $? 'gradients have the shape of the queries'

passes 'mra2 with every block' grad --method mra2 --set blocks=2 --dq dq.npy --dk dk.npy --dv dv.npy
for x in dq dk dv; do
    close_to $x.npy "$work/$x.txt" 1e-5
    ok $? "$x is exact when every block is refined"
done

npy m.npy u1 37 'i < 30'
awk 'BEGIN { for (i = 0; i < 37; i++) print (i < 30) }' >"$work/m.txt"
attention 37 6 "$work/q.txt" "$work/k.txt" "$work/v.txt" "$work/m.txt" "$work/g.txt" >"$work/all.txt"
passes 'with a mask' grad --method exact --mask m.npy --dq dq.npy --dk dk.npy --dv dv.npy
sed -n '223,444p' "$work/all.txt" >"$work/dk.txt"
close_to dk.npy "$work/dk.txt" 1e-5
ok $? 'the gradient of the keys is that of the unmasked tokens'

npy short.npy f4 36,6 'r(i, 4)'
npy nan.npy f4 37,6 'i == 200 ? nan() : 1'
rm -f dq.npy dk.npy dv.npy z.npy
all='--dq dq.npy --dk dk.npy --dv dv.npy'
# shellcheck disable=SC2086  # $all is words
{
    refuses 'an output gradient of another shape' 'short\.npy.*36, 6.*q\.npy.*37, 6' \
        "$mra" grad --method mra2 --q q.npy --k k.npy --v v.npy --dout short.npy $all
    refuses 'a NaN in the output gradient' 'nan\.npy.*200|nan\.npy.*33, *2' \
        "$mra" grad --method mra2 --q q.npy --k k.npy --v v.npy --dout nan.npy $all
    refuses 'no output gradient' '--dout' "$mra" grad --method mra2 --q q.npy --k k.npy --v v.npy $all
    refuses 'an unknown method' 'nosuch' grad --method nosuch $all
    refuses 'a budget larger than the matrix' 'blocks' grad --method mra2 --set blocks=99 $all
}
refuses 'two outputs of one name' '--dq and --dv both name a\.npy' \
    grad --method exact --dq a.npy --dk b.npy --dv a.npy
mkdir folder
refuses 'the last output is a folder: none is written' '--dv.*folder' \
    grad --method exact --dq dq.npy --dk dk.npy --dv folder
refuses 'the last output has no folder: none is written' 'nowhere' \
    grad --method exact --dq dq.npy --dk dk.npy --dv nowhere/dv.npy
finish
