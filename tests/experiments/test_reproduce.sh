#!/bin/sh
# `make reproduce PROFILE=smoke` from the drivers to the drawn figures, on small heads and in a folder of its own.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}
out=${MRA_OUT:?MRA_OUT: expected the folder of the build}

mkdir -p in/near-512 build
for array in q k v; do
    npy in/near-512/example0-$array.npy f2 2,512,8 "cos(0.01 * int(i / 8) * (i % 8)) + 0.5 * r(i, $(printf '%d' "'$array"))"
done
ln -s "$out" build/release
reproduce() {
    BUILD=$work/here/build sh "$root/experiments/reproduce.sh" --profile smoke --threads 2 --inputs "$work/here/in" --no-report "$@"
}
passes 'the smoke profile runs' reproduce
grep -q 'reproduced in [0-9]* s' "$work/stderr"
ok $? 'tells the total time'
for name in wavelet coefficient selection illustration approximation related efficiency entropy certificate optimal; do
    picture=build/figures/smoke/$name.svg
    head -c 100 $picture | grep -q '<?xml' && tail -n 3 $picture | grep -q '</svg>' && grep -q 'profile smoke · ' $picture
    ok $? "$name is drawn, and says where it comes from"
done
listing() { find build/results build/figures -type f -printf "%p %T@ %s\n" | sort; }
listing >"$work/before"
passes 'again' reproduce
listing | cmp -s - "$work/before"
ok $? 'makes nothing anew'

run reproduce --only entropy --inputs "$work/absent"
[ "$status" -eq 2 ] && grep -q '^entropy: .*absent: no trained heads' "$work/stderr"
ok $? 'a failing driver stops it, with its message and status'
run reproduce --only nosuch
[ "$status" -eq 2 ] && grep -q "'nosuch' is not one of" "$work/stderr"
ok $? 'an unknown figure is refused'
run reproduce --frobnicate
[ "$status" -eq 2 ] && grep -q -- '--frobnicate: unknown option' "$work/stderr"
ok $? 'an unknown option is refused'
finish
