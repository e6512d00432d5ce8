#!/bin/sh
# What methods learn and draw, in files: --weights, --save-weights, --dump-random and --dweights, for every method of the
# table; and the gradient and the meaning of a file that another program wrote.
. "$(dirname "$0")/../tap.sh"

# tensor FILE NAME SHAPE EXPRESSION [TYPE]: a safetensors file of one array, as npy makes it; TYPE: f4 or i4.
tensor() {
    npy "$work/body.npy" "${5:-f4}" "$3" "$4"
    tensor_bytes=$(echo "$3" | awk -F, '{ s = 4; for (i = 1; i <= NF; i++) s *= $i; print s }')
    tensor_type=F32
    [ "${5:-f4}" = f4 ] || tensor_type=I32
    tensor_header="{\"$2\":{\"dtype\":\"$tensor_type\",\"shape\":[$3],\"data_offsets\":[0,$tensor_bytes]}}"
    gawk -b -v n=${#tensor_header} 'BEGIN { printf "%c%c%c%c%c%c%c%c", n % 256, n / 256, 0, 0, 0, 0, 0, 0 }' >"$1"
    printf '%s' "$tensor_header" >>"$1"
    tail -c "$tensor_bytes" "$work/body.npy" >>"$1"
}
header() { # header FILE: of a safetensors file
    head -c $((8 + $(od -An -t u4 -N 4 "$1"))) "$1" | tail -c +9
}
floats() { # floats FILE: all values of a safetensors file, one a line
    od -An -v -t f4 -w4 -j $((8 + $(od -An -t u4 -N 4 "$1"))) "$1"
}
listed() { # listed METHOD learns|draws: the names on the method's page
    "$mra" methods "$1" | awk -v what="$2" '
        $1 ~ "^" what ",?$" { inside = / in such a layer/; next } NF == 0 { inside = 0 }
        inside && /^  [a-z]/ { print $1 }'
}

npy q.npy f4 2,96,16 '1.5 * r(i, 1)'
npy k.npy f4 2,96,16 '1.5 * r(i, 2)'
npy v.npy f4 2,96,16 'r(i, 3)'
npy g.npy f4 2,96,16 'r(i, 4)'
base='--q q.npy --k k.npy --v v.npy'
# shellcheck disable=SC2086  # $base is words
{
    # ---- Every method
    tensor any.st any 1 1
    for method in $("$mra" methods | awk 'NR > 1 { print $1 }'); do
        attend="$mra attend --method $method $base"
        learns=$(listed "$method" learns) draws=$(listed "$method" draws)
        $attend --seed 3 --out z.npy
        if [ -n "$learns" ]; then
            passes "$method writes what it learns" $attend --seed 3 --out y.npy --save-weights w.st
            cmp -s y.npy z.npy
            ok $? "$method: and computes the same"
            missing=
            for name in $learns; do header w.st | grep -q "\"$name\":{\"dtype\":\"F32\"" || missing="$missing $name"; done
            [ -z "$missing" ]
            ok $? "$method: all that its page lists is there, as float32${missing:+; not $missing}"
            passes "$method takes it again" $attend --seed 3 --weights w.st --out y.npy
            cmp -s y.npy z.npy
            ok $? "$method: and computes the same from the file"
            if [ -z "$draws" ]; then
                $attend --seed 4 --weights w.st --out y.npy && cmp -s y.npy z.npy
                ok $? "$method: under another seed too"
            fi
            $attend --seed 4 --out y.npy && ! cmp -s y.npy z.npy
            ok $? "$method: without the file another seed is another result"
            passes "$method: gradients with respect to it" "$mra" grad --method "$method" $base --dout g.npy \
                --dq dq.npy --dk dk.npy --dv dv.npy --weights w.st --dweights dw.st
            [ "$(header dw.st | tr '}' '\n' | grep -c F32)" = "$(echo "$learns" | wc -l)" ] &&
                floats dw.st | awk '$1 != 0 { n++ } $1 + 0 != $1 + 0 || /n/ { bad = 1 } END { exit bad || !n }'
            ok $? "$method: are numbers"
            tensor odd.st "$(echo "$learns" | head -n 1)" 3,5 1
            refuses "$method: another shape" \
                "odd.st: array $(echo "$learns" | head -n 1) has shape \[3, 5\], expected \[.*\]" \
                $attend --weights odd.st --out bad.npy
            tensor other.st another 3,5 1
            refuses "$method: an array that is missing" \
                "other.st: no array $(echo "$learns" | head -n 1); expected one of shape \[" \
                $attend --weights other.st --out bad.npy
        else
            refuses "$method learns nothing: no --weights" '--weights: the method learns nothing' \
                $attend --weights any.st --out bad.npy
            refuses "$method: nor anything to save" '--save-weights: the method learns nothing' \
                $attend --save-weights bad.st --out bad.npy
        fi
        if [ -n "$draws" ]; then
            passes "$method writes what it draws" $attend --seed 3 --threads 1 --out y.npy --dump-random r.st
            missing=
            for name in $draws; do header r.st | grep -Eq "\"$name\":.\"dtype\":\"[FI]32\"" || missing="$missing $name"; done
            cmp -s y.npy z.npy && [ -z "$missing" ]
            ok $? "$method: all that its page lists, and the result is the same${missing:+; not $missing}"
            $attend --seed 3 --threads 2 --out y.npy --dump-random r2.st && cmp -s r.st r2.st
            ok $? "$method: the same numbers on two threads"
            $attend --seed 4 --out y.npy --dump-random r2.st && ! cmp -s r.st r2.st
            ok $? "$method: other numbers from another seed"
        else
            refuses "$method draws nothing" '--dump-random: the method draws nothing' \
                $attend --dump-random bad.st --out bad.npy
        fi
    done

    # ---- A file from elsewhere: Linformer whose projection is a permutation of the tokens is exact attention
    attend="$mra attend --method linformer --set k=96 $base"
    tensor permutation.st projection 2,96,96 'i % 96 == (7 * int(i / 96) + 5) % 96'
    passes 'a projection from elsewhere' $attend --weights permutation.st --out y.npy
    "$mra" attend --method exact $base --out z.npy
    values z.npy >"$work/z.txt"
    close_to y.npy "$work/z.txt" 1e-5
    ok $? 'that permutes the tokens: exact attention'
    tensor named.st linformer.projection 2,96,96 'i % 96 == (7 * int(i / 96) + 5) % 96'
    $attend --weights named.st --out x.npy && cmp -s x.npy y.npy
    ok $? 'the name may say whose it is'

    # ---- Its gradient, along one direction
    grad="$mra grad --method linformer --set k=8 $base --dout g.npy --dq dq.npy --dk dk.npy --dv dv.npy --out z.npy"
    for step in 0 -0.02 0.02; do tensor "at$step.st" projection 2,8,96 "0.1 * r(i, 5) + $step * r(i, 6)"; done
    passes 'the gradient of a projection' $grad --weights at0.st --dweights dw.st
    values g.npy >"$work/g.txt"
    for step in -0.02 0.02; do
        $grad --weights "at$step.st" && values z.npy | paste - "$work/g.txt" | awk '{ s += $1 * $2 } END { printf "%.9g\n", s }'
    done >"$work/sums"
    tensor u.st projection 2,8,96 'r(i, 6)'
    floats u.st >"$work/u.txt"
    floats dw.st | paste - "$work/u.txt" | awk '{ s += $1 * $2 } END { printf "%.9g\n", s }' >>"$work/sums"
    awk '{ x[NR] = $1 } END { q = (x[2] - x[1]) / 0.04; d = q - x[3]; if (d < 0) d = -d
        print "# difference quotient " q ", gradient " x[3]; a = q < 0 ? -q : q; exit !(NR == 3 && d <= 0.01 * a) }' "$work/sums"
    ok $? 'is the slope of the output'

    # ---- Bad files
    : >empty.st
    head -c 100 permutation.st >cut.st
    tensor ints.st projection 2,96,96 1 i4
    refuses 'a file that is not there' 'nowhere.st' $attend --weights nowhere.st --out bad.npy
    refuses 'an empty file' 'empty.st' $attend --weights empty.st --out bad.npy
    refuses 'a truncated file' 'cut.st' $attend --weights cut.st --out bad.npy
    refuses 'whole numbers' 'ints.st: array projection has type I32, expected F32' $attend --weights ints.st --out bad.npy
    refuses 'one path for two outputs' '--out and --save-weights both name bad.npy' \
        $attend --save-weights bad.npy --out bad.npy
    refuses 'a folder that is not there: nothing is written' 'nowhere' $attend --save-weights nowhere/w.st --out bad.npy

    # ---- Methods side by side
    audit="$mra audit $base --repeats 1 --quiet --set k=16 --methods exact,linformer,soft-conv"
    passes 'mra audit writes what several methods learn' $audit --seed 3 --save-weights w.st
    cut -f 1-8 "$work/stdout" >"$work/table"
    header w.st | grep -q '"linformer.projection":.*"soft-conv.window":'
    ok $? 'under the names of their methods'
    passes 'and takes it again' $audit --seed 3 --weights w.st
    cut -f 1-8 "$work/stdout" | cmp -s - "$work/table"
    ok $? 'with the same errors'
    "$mra" attend --method linformer --set k=16 $base --weights w.st --out y.npy
    "$mra" attend --method exact $base --out z.npy
    for x in y z; do values $x.npy | tail -n 1536 >"$work/$x.txt"; done
    error=$(paste "$work/y.txt" "$work/z.txt" | awk '{ d += ($1 - $2) ^ 2; z += $2 ^ 2 } END { print sqrt(d / z) }')
    awk -F '\t' -v e="$error" '$2 == 1 && $3 == "linformer" { d = $8 / e - 1; found = d * d < 1e-8 } END { exit !found }' "$work/table"
    ok $? "the error of head 1 is that of head 1 of mra attend, $error"
    passes 'mra bench takes weights' "$mra" bench attention --n 96 --heads 2 --d 16 --methods exact,linformer --set k=16 \
        --repeats 1 --quiet --weights w.st
    refuses 'for one number of tokens' '--n has 2' "$mra" bench attention --n 96,128 --heads 2 --d 16 \
        --methods linformer --set k=16 --weights w.st
    refuses 'of that number of tokens' 'w.st: array linformer.projection has shape \[2, 16, 96\], expected \[2, 16, 128\]' \
        "$mra" bench attention --n 128 --heads 2 --d 16 --methods linformer --set k=16 --weights w.st
    refuses 'methods that learn nothing' '--weights: none of the methods learns anything' \
        "$mra" bench attention --n 96 --heads 2 --d 16 --methods exact,mra2 --weights w.st
}
finish
