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
for name in wavelet coefficient selection illustration approximation related efficiency entropy certificate optimal datasets; do
    picture=build/figures/smoke/$name.svg
    head -c 100 $picture | grep -q '<?xml' && tail -n 3 $picture | grep -q '</svg>' && grep -q 'profile smoke · ' $picture
    ok $? "$name is drawn, and says where it comes from"
done
grep -q "</svg>" build/figures/smoke/curves.svg
ok $? "the curves of the trainings are drawn"
[ "$(wc -l <build/results/smoke/lra.tsv)" -eq 3 ] && grep -Eq "^listops	mra2	[0-9.]*	-	1	" build/results/smoke/lra.tsv &&
    [ "$(grep -c "not run	not run	not run	not run	not run	-	not transcribed\$" build/results/smoke/lra-paper.tsv)" -eq 16 ]
ok $? "the tables have the cells of the profile, and say what was not run"
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
run reproduce --list
[ "$status" -eq 0 ] && grep -q "2 runs; 2 done" "$work/stderr" && grep -q "^lra/listops/mra2	1	done" "$work/stdout"
ok $? "the plan alone"
awk -F "	" -v OFS="	" "NR > 1 { \$3 = \"to-do\"; \$4 = 30 } { print }" build/plan/smoke.tsv >plan && mv plan build/plan/smoke.tsv
for method in exact mra2; do rm build/cells/smoke/lra/listops/$method/seed-1/result.tsv; done
run reproduce
[ "$status" -eq 2 ] && grep -q "that is 2 days and more.*--yes" "$work/stderr"
ok $? "what takes days waits for --yes"
run reproduce --frobnicate
[ "$status" -eq 2 ] && grep -q -- '--frobnicate: unknown option' "$work/stderr"
ok $? 'an unknown option is refused'
finish
