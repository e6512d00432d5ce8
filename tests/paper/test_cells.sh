#!/bin/sh
# The tables of trainings: means and deviations over seeds, what was not run, and which runs count.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}
BUILD=$work/here/build
export BUILD

# result PROFILE/TABLE/TASK/METHOD/seed-N ACCURACY SECONDS: what a training leaves.
result() {
    mkdir -p "build/cells/$1"
    printf 'split\texamples\taccuracy\tloss\tmajority\tstep\tsteps\tweights\tseconds\n' >"build/cells/$1/result.tsv"
    printf 'dev\t100\t0.9\t1\t0.5\t30\t40\t1000\t%s\ntest\t200\t%s\t1\t0.25\t30\t40\t1000\t%s\n' "$3" "$2" "$3" >>"build/cells/$1/result.tsv"
    printf '{\n  "commit": "0123456789ab",\n  "started": "2001-02-03T04:05:06Z"\n}\n' >"build/cells/$1/run.json"
    printf 'step\tsplit\tloss\taccuracy\tlearning_rate\ttokens_per_second\tseconds\n10\ttrain\t2.5\t0.1\t1\t1\t1\n' >"build/cells/$1/log.tsv"
}
table=build/results/paper
# Three seeds 0.5, 0.6, 0.8: mean 19/30, deviation sqrt(7/300).
result paper/lra/listops/mra2/seed-1 0.5 1800
result paper/lra/listops/mra2/seed-2 0.6 1800
result paper/lra/listops/mra2/seed-3 0.8 3600
result smoke/lra/listops/mra2/seed-1 0.1 1
for task in listops text retrieval image pathfinder32; do result paper/lra/$task/exact/seed-1 0.7 36; done
passes 'the tables' sh "$root/paper/cells.sh" paper
expected=$(awk 'BEGIN { printf "listops\tmra2\t%.4f\t%.4f\t3\t0.25", 1.9 / 3, sqrt(0.07 / 3) }')
grep -q "^$expected	not transcribed	paper	40	2.000	this machine\$" $table/lra.tsv
ok $? 'mean, deviation, most frequent answer, steps and hours over three seeds'
[ "$(awk 'END { print NR }' $table/lra.tsv)" -eq 7 ]
ok $? 'a row for every cell that was run with the profile'
[ "$(cat $table/lra-mean.tsv)" = "method	accuracy
exact	0.7000" ]
ok $? 'a mean over the five tasks only where all five are there'
grep -q '^mra2	0.633 ± 0.153	not run	not run	not run	not run	-	not transcribed$' $table/lra-paper.tsv &&
    grep -q '^\*most frequent answer\*	0.250	0.250	' $table/lra-paper.tsv && grep -q '^exact	0.700	0.700	0.700	0.700	0.700	0.700	' $table/lra-paper.tsv
ok $? 'method by task, and what was not run is said'
[ "$(grep -c '^smoke	listops	mra2	1	10	train	2.5	0.1$' $table/curves.tsv)" -eq 1 ]
ok $? 'the curves have every run'
grep -q '^smoke	lra	listops	mra2	1	0.1	0.25	0.9	200	40	30	1000	0.0003	this machine	0123456789ab	2001-02-03$' $table/cells.tsv
ok $? 'and a row a run says from which commit and machine it is'
touch -d '2001-01-01' $table/lra.tsv
passes 'again' sh "$root/paper/cells.sh" paper
[ -z "$(find $table/lra.tsv -newermt 2001-01-02)" ]
ok $? 'makes nothing anew'
rm -r build
passes 'without any run' sh "$root/paper/cells.sh" smoke
[ "$(wc -l <build/results/smoke/lra.tsv)" -eq 1 ]
ok $? 'the tables are empty'
finish
