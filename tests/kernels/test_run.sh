#!/bin/sh
# experiments/kernels/run.sh and its driver on the host runner: tables, record, a second run, and bad input.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}
run() {
    (cd "$root" && BUILD=${MRA_OUT:?MRA_OUT: expected the folder of the build}/.. sh experiments/kernels/run.sh \
        --no-build --no-tests --out "$work/out" "$@")
}

run --device simt >first.txt 2>first.log
ok $? 'the driver runs on the host runner'
for table in operations attention methods; do
    [ "$(wc -l <"$work/out/kernels-$table.tsv")" -gt 10 ]
    ok $? "kernels-$table.tsv has rows"
done
grep -q '"device": "simt"' "$work/out/kernels.run.json"
ok $? 'the record names the device'
[ "$(grep -c '^n = 33 ' first.txt)" -eq 2 ]
ok $? 'exact attention is set against mra2, forward and backward'
awk -F '\t' 'NR > 1 && $2 ~ /^(mra2|mra2s|exact|exact-stored)$/ && ($6 == "-" || $7 == "-" || $8 != "-") { exit 1 }' \
    "$work/out/kernels-attention.tsv"
ok $? 'every row of attention has times'
before=$(cat "$work/out"/*.tsv | cksum)
run --device simt >/dev/null 2>second.log
ok $? 'it runs again'
grep -q 'up to date' second.log && [ "$before" = "$(cat "$work/out"/*.tsv | cksum)" ]
ok $? 'and measures nothing anew'

refuses() { # refuses DESCRIPTION WORDS ARGUMENTS...
    refuses_name=$1 refuses_words=$2
    shift 2
    run "$@" >/dev/null 2>refused.log
    [ $? -eq 2 ] && grep -q -e "$refuses_words" refused.log && [ "$(wc -l <refused.log)" -eq 1 ]
    ok $? "refuses $refuses_name"
    [ "$tap_failed" -eq 0 ] || note "$(cat refused.log)"
}
refuses 'an unknown device' "'abacus'" --device abacus
refuses 'an unknown option' "--wrong" --wrong
refuses 'a missing value' '--profile: expected a value' --profile
if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    skip 'says that there is no GPU' 'there is one'
else
    refuses 'a machine without a GPU' 'no GPU'
fi
finish
