#!/bin/sh
# `make audit`: every claim has a command and a rule that can be evaluated, verdicts are what the numbers say, and the exit status
# is not zero only where the evaluation itself fails.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}

# A tree of its own, with results that are made up.
mkdir -p tree/build/results/laptop
cp -r "$root/paper" tree/ 2>/dev/null
rm -rf tree/paper/inputs
audit() { sh tree/paper/audit.sh "$@"; }
ledger() { # ledger ROW...: id, left, op, right of each claim, with | between
    printf 'id\tclaim\twhere\tleft\top\tright\tprofile\tcommand\n' >tree/paper/claims.tsv
    for row; do
        echo "$row" | gawk -F'|' -v OFS='\t' '{ print $1, "a claim", "a place", $2, $3, $4, "smoke", "make reproduce" }' \
            >>tree/paper/claims.tsv
    done
}
verdict() { gawk -F'\t' -v id="$1" '$1 == id { print $2, $3, $5 }' tree/build/results/laptop/audit.tsv; }
is() { # is DESCRIPTION FOUND EXPECTED
    [ "$2" = "$3" ]
    tap_result=$?
    ok $tap_result "$1"
    [ $tap_result -eq 0 ] || note "'$2' instead of '$3'"
}

# ---- The ledger as it is

gawk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; columns = NF; next }
    /^#/ || !NF { next }
    { rows++
      if (NF != columns || $at["command"] !~ /^(make|sh|build\/bin\/mra) / || $at["claim"] == "" || $at["where"] == "") { print "# " $1; bad = 1 }
      if ($at["profile"] !~ /^(smoke|laptop|reduced|paper)$/ || seen[$1]++) { print "# " $1; bad = 1 } }
    END { print "# " rows " claims"; exit bad || rows < 25 }' "$root/paper/claims.tsv"
ok $? 'at least 25 claims, each with a name of its own, a place, a profile and a command'
cp "$root/paper/claims.tsv" tree/paper/claims.tsv
passes 'without results every claim is evaluated' audit
prints 'and is not measured here' '^0 hold, 0 fail, [0-9]+ not measured here$'

# ---- Verdicts

printf 'method\tn\terror\nmra2\t512\t0.25\nmra2\t4096\t0.75\nexact\t512\t0\nmra2s\t512\t-\n' >tree/build/results/laptop/x.tsv
ledger 'less|mean:error x.tsv method=mra2 n=512|<|0.5' 'not-less|mean:error x.tsv method=mra2 n=4096|<|0.5' \
    'mean|mean:error x.tsv method=mra2|=|0.5' 'sum|sum:error x.tsv|>=|1' 'most|max:error x.tsv|<=|0.75' \
    'least|min:error x.tsv|=|0' 'middle|median:error x.tsv|=|0.25' 'count|count:error x.tsv|=|3' \
    'factor|4*mean:error x.tsv method=mra2 n=512|>|0.5*mean:error x.tsv method=mra2 n=4096' \
    'no-row|mean:error x.tsv method=yoso|<|1' 'no-number|mean:error x.tsv method=mra2s|<|1' 'no-file|mean:error y.tsv|<|1'
passes 'claims that hold, fail and were not measured: status 0' audit
prints 'counts them' '^8 hold, 1 fail, 3 not measured here$'
is '<' "$(verdict less)" 'holds 0.25 0.5'
is 'a claim that fails' "$(verdict not-less)" 'fails 0.75 0.5'
is 'a mean' "$(verdict mean)" 'holds 0.5 0.5'
is 'a median' "$(verdict middle)" 'holds 0.25 0.25'
is 'factors' "$(verdict factor)" 'holds 1 0.375'
is 'a row that is not there' "$(verdict no-row)" 'not measured here - 1'
is 'a cell without a number' "$(verdict no-number)" 'not measured here - 1'
is 'a file that is not there' "$(verdict no-file)" 'not measured here - 1'

# ---- What is wrong with the ledger itself

fails() { # fails DESCRIPTION PATTERN
    cp tree/build/results/laptop/audit.tsv "$work/before"
    run audit
    [ "$status" -ne 0 ] && grep -Eq -- "$2" "$work/stderr" && cmp -s "$work/before" tree/build/results/laptop/audit.tsv
    tap_result=$?
    ok $tap_result "$1"
    [ $tap_result -eq 0 ] || note "status $status: $(cat "$work/stderr")"
}
ledger 'x|mean:eror x.tsv|<|1'
fails 'a column that the result does not have' "no column 'eror'"
ledger 'x|mean:error x.tsv metod=mra2|<|1'
fails 'a key that the result does not have' "no column 'metod'"
ledger 'x|mode:error x.tsv|<|1'
fails 'an aggregate that there is not' "aggregate 'mode'"
ledger 'x|mean:error x.tsv|~|1'
fails 'a comparison that there is not' "comparison '~'"
run audit huge
[ "$status" -eq 2 ] && grep -q 'build/results/huge: no results yet; run: make reproduce PROFILE=huge' "$work/stderr"
ok $? 'a profile without results: status 2 and what to run'
finish
