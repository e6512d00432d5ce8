#!/bin/sh
# The drivers of the figures, on small arrays: their numbers against definitions written out here in awk, what they
# promise about being interrupted and repeated, and bad input.
. "$(dirname "$0")/../tap.sh"
drivers=${MRA_OUT:?MRA_OUT: expected the folder of the build}/experiments
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}

set_of() { # set_of FOLDER EXAMPLE N: q, k, v of 2 heads x 16; smooth in the token, so that boxes make sense
    mkdir -p "$1"
    for array in q k v; do
        seed=$(printf '%d' "'$array")
        npy "$1/example$2-$array.npy" f4 "2,$3,16" \
            "1.1 * cos(0.002 * int(i / 16) * (i % 16) + i % 16) + 0.7 * r(i, $seed + $2)"
    done
}
set_of in/near-64 0 64
set_of in/near-64 1 64

driver() { # driver NAME ARGUMENTS...: with small settings
    driver_name=$1
    shift
    case $driver_name in
    wavelet) set -- --set points=9 "$@" ;;
    certificate) set -- --set 't=0.0625 1' --set 'budgets=0 1' "$@" ;;
    optimal) set -- --set 'budgets=0.5 1' --set 'time_budgets=0.5 1 2' --set repeats=1 "$@" ;;
    coefficient) set -- --set 'scales=16 8 4' --set boxes=20 --set block=16 --set 'budgets=0 1' "$@" ;;
    selection) set -- --set block=16 --set 'budgets=0.5 1 2 4' --set pictures=2 --set 'blocks=1 4' "$@" ;;
    illustration) set -- --set block=16 --set 'budgets=0 1 2 4' --set heads=near-64:0:0 "$@" ;;
    approximation) set -- --set pictures=3 --set 'scales=16 1' --set blocks=1 "$@" ;;
    efficiency) set -- --set lengths=64 --set repeats=1 --set 'blocks=0.5 1' --set heads=2 --set width=16 "$@" ;;
    related) set -- --set 'lengths=32 64' --set repeats=1 --set heads=2 --set width=16 --set head=near-64:0:0 "$@" ;;
    entropy) set -- --set 't=0.25 1 4' --set 'blocks=0.5 1' --set 'table_blocks=0.5 1' \
        --set "published=$work/published" "$@" ;;
    esac
    [ "$driver_name" = efficiency ] || set -- --set n=64 "$@"
    "$drivers/$driver_name" --settings "$root/experiments/$driver_name.ini" --inputs "$work/here/in" --quiet "$@"
}
column() { # column FILE NAME [KEY VALUE]...: cells of a column in the rows whose keys have these values
    column_file=$1 column_name=$2
    shift 2
    gawk -F '\t' -v name="$column_name" -v keys="$*" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; count = split(keys, key, " "); next }
        { for (i = 1; i < count; i += 2) if ($at[key[i]] != key[i + 1]) next; print $at[name] }' "$column_file"
}
near() { # near DESCRIPTION VALUE REFERENCE TOLERANCE (relative)
    awk -v a="$2" -v b="$3" -v t="$4" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(b != "" && a != "" && d <= t * (b < 0 ? -b : b)) }'
    tap_result=$?
    ok $tap_result "$1"
    [ $tap_result -eq 0 ] || note "$2 instead of $3"
}

mkdir -p "$work/published"
printf 'n\tmethod\tparameter\tvalue\trelative_error_mean\trelative_error_sd\n64\tmra-2\tblock_per_row\t1\t0.25\t0.125\n' \
    >"$work/published/efficiency.tsv"
for name in wavelet coefficient selection illustration approximation related efficiency entropy certificate optimal; do
    passes "$name runs" driver $name --out out --threads 2
    [ -s "out/$name.tsv" ] && [ -s "out/$name.run.json" ] && ! ls out/*.part >/dev/null 2>&1
    ok $? "$name leaves its table, a run record and no journal"
done

# ---- Definitions: head 0 of example 0 --------------------------------------------------------------------
values in/near-64/example0-q.npy | head -1024 >"$work/q"
values in/near-64/example0-k.npy | head -1024 >"$work/k"
gawk -v q="$work/q" -v k="$work/k" 'BEGIN {
    while ((getline x < q) > 0) a[m++] = x
    while ((getline x < k) > 0) b[o++] = x
    for (i = 0; i < 64; i++) for (j = 0; j < 64; j++) {
        s = 0
        for (c = 0; c < 16; c++) s += a[i * 16 + c] * b[j * 16 + c]
        printf "%.12g\n", s / 4
    } }' >"$work/logits"

gawk -F '\t' -v logits="$work/logits" '
    BEGIN { while ((getline x < logits) > 0) p[m++] = x + 0 }
    NR > 1 && $2 == 0 && $3 == 0 {
        s = $4; sum = ex = 0; low = 1e9; high = -1e9
        for (i = $5 * s; i < ($5 + 1) * s; i++) for (j = $6 * s; j < ($6 + 1) * s; j++) {
            x = p[i * 64 + j]; sum += x; ex += exp(x); if (x < low) low = x; if (x > high) high = x
        }
        mean = sum / s ^ 2; star = log(ex / s ^ 2); r = high - low
        bad += far($7, r) + far($8, mean) + far($9, star) + far(1 + $10, exp(star - mean))
        bad += far($11, 1 + exp(r) - 2 * exp(r / 2)) + far(1 + $12, (exp(r) - 1) * exp(r / (exp(r) - 1)) / (exp(1) * r))
        rows++
    }
    function far(a, b,   d) { d = a - b; return (d < 0 ? -d : d) > 1e-4 * (1 + (b < 0 ? -b : b)) }
    END { print "# " rows " boxes, " bad + 0 " cells apart"; exit !(rows == 60 && !bad) }' out/coefficient.tsv
ok $? 'coefficient: range, mu, mu*, gap and both bounds are their definitions'
[ "$(column out/coefficient-global.tsv violated | sort -u)" = 0 ]
ok $? 'coefficient: no error of the whole matrix is above a bound'
gawk -v logits="$work/logits" 'BEGIN {
    while ((getline x < logits) > 0) { p[m++] = x + 0; norm += exp(2 * x) }
    for (x = 0; x < 4; x++) for (y = 0; y < 4; y++) {
        sum = e = 0; low = 1e9; high = -1e9
        for (i = 16 * x; i < 16 * x + 16; i++) for (j = 16 * y; j < 16 * y + 16; j++) {
            t = p[i * 64 + j]; sum += t / 256; if (t < low) low = t; if (t > high) high = t }
        for (i = 16 * x; i < 16 * x + 16; i++) for (j = 16 * y; j < 16 * y + 16; j++) error += (exp(p[i * 64 + j]) - exp(sum)) ^ 2
        if (high - low > r) r = high - low
        if (!(x + y) || sum > top) top = sum
    }
    bound = 64 * 64 * (exp(r) - 1) ^ 2 * exp(2 * top)
    printf "%.9g %.9g\n", sqrt(error / norm), log(bound / error) / 2 / log(10) }' >"$work/global"
near 'coefficient: the error of the whole matrix' "$(column out/coefficient-global.tsv matrix_error example 0 head 0 bound paper blocks 0)" \
    "$(cut -d' ' -f1 "$work/global")" 1e-5
near "coefficient: and the paper's bound on it" "$(column out/coefficient-global.tsv log10_slack example 0 head 0 bound paper blocks 0)" \
    "$(cut -d' ' -f2 "$work/global")" 1e-5
[ "$(column out/coefficient-bounds.tsv boxes | tr '\n' ' ')" = '80 80 80 ' ] &&
    [ "$(column out/coefficient-bounds.tsv above_sharp_bound | tr '\n' ' ')" = '0 0 0 ' ]
ok $? 'coefficient: every box is counted and none is above the sharp bound'

gawk -F '\t' 'NR > 1 { e[$1 $2 $3 $7, $5, $6] = $9; head[$1 $2 $3 $7] }
    END { for (h in head) { n++
        if (e[h, "tree", "mu"] > e[h, "oracle", "mu"] + 1e-9 || e[h, "tree", "best"] > e[h, "tree", "mu"] + 1e-9) bad = 1
        if (e[h, "oracle", "mu"] > e[h, "row", "mu"] + 1e-6 || e[h, "oracle", "mu"] > e[h, "spread", "mu"] + 1e-6) bad = 1 }
        exit bad || n != 4 }' out/optimal.tsv
ok $? 'optimal: no ranking beats the oracle, and no boxes of two sides the best tree'

# At equal time: read off the measured times and errors once more.
gawk -F '\t' 'FNR == 1 { next }
    FNR == NR { t[$1, $4, ++count[$1, $4]] = $6; e[$1, $4, count[$1, $4]] = $7; b[$1, $4, count[$1, $4]] = $5; next }
    { k = ++seen[$1]; T = t[$1, "row", k]; rows++
      bad += $3 != b[$1, "row", k] || far($4, T) || far($5, e[$1, "row", k])
      x = y = "-"; n = count[$1, "spread"]
      for (i = 1; i < n; i++) {
          low = t[$1, "spread", i]; high = t[$1, "spread", i + 1]
          if ((low - T) * (high - T) > 0) continue
          w = (T - low) / (high - low); x = b[$1, "spread", i] * (1 - w) + b[$1, "spread", i + 1] * w
          y = exp(log(e[$1, "spread", i]) * (1 - w) + log(e[$1, "spread", i + 1]) * w); break
      }
      if (x == "-" && t[$1, "spread", n] < T) { x = b[$1, "spread", n]; y = e[$1, "spread", n] }
      if (x == "-") bad += $6 != "-" || $7 != "-"
      else bad += far($6, x) || far($7, y) }
    function far(p, q,   d) { d = p - q; return (d < 0 ? -d : d) > 1e-6 * (q < 0 ? -q : q) }
    END { print "# " rows + 0 " rows, " bad + 0 " apart"; exit !(rows == 3 && !bad) }' out/optimal-time.tsv out/optimal-equal-time.tsv
ok $? 'optimal: what the better ranking reaches in the same time'

[ "$(column out/certificate.tsv violated | sort -u)" = 0 ] && [ "$(column out/certificate-tolerance.tsv head | wc -l)" -eq 8 ]
ok $? 'certificate: no row is farther off than its bound'
column out/certificate-tolerance.tsv relative_error | awk '!($1 <= 0.01) { exit 1 }'
ok $? 'certificate: a tolerance is met'

gawk -v logits="$work/logits" 'BEGIN {
    while ((getline x < logits) > 0) { x += 0; p[m++] = x; if (m == 1 || x > top) top = x }
    for (x = 0; x < 4; x++) for (y = 0; y < 4; y++) {
        sum = e = 0
        for (i = 16 * x; i < 16 * x + 16; i++) for (j = 16 * y; j < 16 * y + 16; j++) sum += p[i * 64 + j]
        for (i = 16 * x; i < 16 * x + 16; i++) for (j = 16 * y; j < 16 * y + 16; j++)
            e += (exp(p[i * 64 + j] - top) - exp(sum / 256 - top)) ^ 2
        error[++boxes] = e; mu[boxes] = sum; total += e
    }
    for (b = 1; b <= boxes; b++) place[b] = b
    for (b = 1; b <= boxes; b++) for (c = b + 1; c <= boxes; c++) if (mu[place[c]] > mu[place[b]]) {
        t = place[b]; place[b] = place[c]; place[c] = t }
    for (b = 1; b <= 4; b++) plain += error[place[b]]
    asort(error, sorted, "@val_num_desc")
    for (b = 1; b <= 4; b++) oracle += sorted[b]
    printf "%.9g %.9g\n", oracle / total, plain / total }' >"$work/shares"
share() { column out/selection.tsv share example 0 head 0 measure matrix order "$1" blocks "$2"; }
near 'selection: the oracle removes what it should' "$(share oracle 1)" "$(cut -d' ' -f1 "$work/shares")" 1e-4
near 'selection: so does the ranking by coefficient' "$(share plain 1)" "$(cut -d' ' -f2 "$work/shares")" 1e-4
for measure in matrix softmax; do
    gawk -F '\t' -v m=$measure 'NR > 1 && $4 == m { if ($5 == "oracle") best[$1 $2 $3 $6] = $7; else other[NR] = $1 $2 $3 $6 OFS $7
        if ($6 == 4 && ($7 > 1.00001 || $7 < 0.99999)) bad = 1 }
        END { for (i in other) { split(other[i], o, " "); if (o[2] > best[o[1]] * 1.00001) bad = 1 } exit bad }' out/selection.tsv
    ok $? "selection, $measure: nothing beats the oracle, and all boxes remove everything"
done

gawk -v logits="$work/logits" 'BEGIN {
    while ((getline x < logits) > 0) { x += 0; p[m++] = x; if (m == 1 || x > top) top = x }
    for (i = 0; i < m; i++) { a[i] = exp(p[i] - top); sum += a[i]; norm += a[i] ^ 2 }
    for (i = 0; i < 64; i++) u[i] = 1
    for (step = 0; step < 60; step++) {          # power iteration for the largest singular value
        for (j = 0; j < 64; j++) { w[j] = 0; for (i = 0; i < 64; i++) w[j] += a[i * 64 + j] * u[i] }
        size = 0
        for (i = 0; i < 64; i++) { u[i] = 0; for (j = 0; j < 64; j++) u[i] += a[i * 64 + j] * w[j]; size += u[i] ^ 2 }
        size = sqrt(size)
        for (i = 0; i < 64; i++) u[i] /= size
    }
    asort(a, sorted, "@val_num_desc")
    tail = norm; for (i = 1; i <= 4; i++) tail -= sorted[i] ^ 2
    printf "%.9g %.9g %.9g\n", sqrt(1 - (sum ^ 2 / m) / norm), sqrt(tail / norm), sqrt(1 - size / norm) }' >"$work/curves"
point() { column out/wavelet.tsv relative_error example 0 head 0 series "$1" terms "$2"; }
near 'wavelet: one box is the mean' "$(point frame-mean 1)" "$(cut -d' ' -f1 "$work/curves")" 1e-5
near 'wavelet: and so is one Haar term' "$(point haar 1)" "$(cut -d' ' -f1 "$work/curves")" 1e-5
near 'wavelet: the best sparse approximation leaves out the tail' "$(point sparse 4)" "$(cut -d' ' -f2 "$work/curves")" 1e-5
near 'wavelet: the best rank one by power iteration' "$(point rank 128)" "$(cut -d' ' -f3 "$work/curves")" 1e-4
gawk -F '\t' 'NR > 1 { at = $2 $3; if ($4 == "haar") haar[at $5] = $7; if ($4 == "frame-mean") frame[at $5] = $7
        if ($4 == last && $4 != "frame-exp" && $7 > before + 1e-9) bad = 1; last = $4; before = $7 }
    END { for (k in haar) { n++; if (haar[k] > frame[k] + 1e-9) bad = 1 } exit bad || n < 20 }' out/wavelet.tsv
ok $? 'wavelet: errors fall with the number of terms, and Haar is never behind the boxes'

awk '{ a[NR - 1] = $1 } END { for (i = 0; i < 64; i++) { s = 0; for (j = 0; j < 64; j++) s += exp(a[i * 64 + j])
       for (j = 0; j < 64; j++) printf "%.9g\n", (a[i * 64 + j] - log(s)) / log(10) } }' "$work/logits" >"$work/picture"
close_to out/illustration-0.npy "$work/picture" 1e-5
ok $? 'illustration: the exact picture is log10 of the softmax'
close_to out/illustration-4.npy "$work/picture" 1e-5
ok $? 'illustration: and so is the one with every box refined'
[ "$(column out/illustration.tsv entries | tr '\n' ' ')" = '4096 0 1024 2048 4096 ' ]
ok $? 'illustration: entries are those of the boxes refined'
column out/illustration.tsv relative_error blocks 4 | awk '{ exit !($1 < 1e-5) }'
ok $? 'illustration: no error with every box refined'
entropy=$(awk '{ a[NR - 1] = $1 } END { for (i = 0; i < 64; i++) { s = 0; for (j = 0; j < 64; j++) s += exp(a[i * 64 + j])
    for (j = 0; j < 64; j++) { l = a[i * 64 + j] - log(s); h -= exp(l) * l } } printf "%.9g", h / 64 }' "$work/logits")
near 'illustration: entropy by its definition' "$(column out/illustration.tsv entropy blocks exact)" "$entropy" 1e-5
[ "$(column out/approximation.tsv entropy)" = "$(column out/approximation.tsv entropy | sort -g)" ] &&
    [ "$(column out/approximation.tsv entropy | wc -l)" -eq 3 ]
ok $? 'approximation: heads are spread from concentrated to diffuse'

cell() { column out/entropy.tsv "$1" example 0 head 0 t "$2" blocks "$3"; }
near 'entropy: by its definition' "$(cell entropy 1 1)" "$entropy" 1e-5
awk -v a="$(cell entropy 0.25 1)" -v b="$(cell entropy 1 1)" -v c="$(cell entropy 4 1)" 'BEGIN { exit !(a > b && b > c) }'
ok $? 'entropy: falls as the logits grow'
near 'entropy and efficiency measure the same error' "$(cell relative_error 1 1)" \
    "$(column out/efficiency-heads.tsv relative_error example 0 head 0 label mra2 blocks 1)" 1e-4
[ "$(column out/entropy-blocks.tsv published_mean | tr '\n' ' ')" = '- 0.25 ' ] &&
    [ "$(column out/entropy-blocks.tsv heads | tr '\n' ' ')" = '4 4 ' ]
ok $? 'entropy: published numbers stand beside ours, and nothing stands where nothing was published'
mean=$(column out/entropy-heads.tsv relative_error blocks 1 | awk '{ s += $1 } END { printf "%.9g", s / NR }')
near 'entropy: the mean is over the heads' "$(column out/entropy-blocks.tsv mean blocks 1)" "$mean" 1e-7

[ "$(column out/efficiency.tsv label | grep -E 'exact|mra' | sort | uniq -c | awk '{ print $2 $1 }' | tr '\n' ' ')" = 'exact1 mra22 mra2s2 mra32 mra42 ' ]
ok $? 'efficiency: a row for every method and budget'
[ "$(column out/efficiency.tsv options label longformer)" = 'window=16' ]
ok $? 'efficiency: and for every value of another method that its share of n allows'
column out/efficiency.tsv error_mean label exact | awk '{ exit !($1 == 0) }'
ok $? 'efficiency: exact has no error'
column out/efficiency.tsv options label mra4 | sed -n 2p | grep -qx 'scales=64:16:4:1 blocks=1:16:128'
ok $? 'efficiency: budgets of many scales cover the same entries'
column out/efficiency.tsv both_ms | awk '!($1 > 0) { exit 1 }' && column out/efficiency.tsv peak_mib | awk '!($1 > 0) { exit 1 }'
ok $? 'efficiency: time and memory are there'

column out/related-matrices.tsv matrix_error method exact | awk '{ exit !($1 < 1e-5) }'
ok $? 'related: the matrix of exact attention is the softmax matrix'
[ "$(column out/related.tsv method | wc -l)" -eq "$(sed '1,/^exact/d;/^$/,$d' "$root/experiments/related.ini" | wc -l | awk '{ print $1 + 1 }')" ]
ok $? 'related: a row for every method of the settings'
column out/entropy-methods-bins.tsv mean method mra2 | awk '!($1 >= 0) { exit 1 } END { exit NR == 0 }'
ok $? 'entropy: other methods are binned as MRA-2 is'

# ---- Again, elsewhere, interrupted ---------------------------------------------------------------------------
listing() { find "$@" -type f -printf "%p %T@ %s\n" | sort; }
listing out >"$work/before"
for name in wavelet coefficient selection illustration approximation related efficiency entropy certificate optimal; do driver $name --out out --threads 2; done
listing out | cmp -s - "$work/before"
ok $? 'a second run finds everything and touches nothing'
cp out/entropy.tsv "$work/entropy.tsv"
driver entropy --out one --threads 1 && cmp -s one/entropy.tsv out/entropy.tsv
ok $? 'the same table with another number of threads'
rm out/entropy-bins.tsv && driver entropy --out out --threads 2 && [ -s out/entropy-bins.tsv ]
ok $? 'a missing output is made again'
driver coefficient --out out --seed 2 && ! cmp -s out/coefficient.tsv one/coefficient.tsv &&
    grep -q '"seed": 2' out/coefficient.run.json
ok $? 'another seed is another run'

driver coefficient --out whole --set boxes=20000
"$drivers/coefficient" --settings "$root/experiments/coefficient.ini" --inputs "$work/here/in" --quiet --out killed \
    --set n=64 --set 'scales=16 8 4' --set boxes=20000 &
child=$!
waited=0
while [ "$(wc -l 2>/dev/null <killed/coefficient.tsv.part || echo 0)" -lt 500 ] && [ $waited -lt 400 ]; do
    waited=$((waited + 1))
    sleep 0.02
done
kill -KILL $child 2>/dev/null
wait $child 2>/dev/null
[ ! -e killed/coefficient.run.json ] && [ ! -e killed/coefficient.tsv ] && [ -s killed/coefficient.tsv.part ]
ok $? 'a killed run leaves its journal and no result'
driver coefficient --out killed --set boxes=20000 && cmp -s killed/coefficient.tsv whole/coefficient.tsv &&
    cmp -s killed/coefficient-bounds.tsv whole/coefficient-bounds.tsv
ok $? 'started again it continues, and ends with the same tables'

# ---- Bad input ------------------------------------------------------------------------------------------------
declines() { # declines DESCRIPTION PATTERN NAME ARGUMENTS...: status 2, one line on stderr, nothing made
    declines_what=$1 declines_pattern=$2
    shift 2
    run driver "$@" --out nothing
    [ "$status" -eq 2 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -Eq -- "$declines_pattern" "$work/stderr" &&
        [ ! -s "$work/stdout" ] && [ ! -e nothing ]
    tap_result=$?
    ok $tap_result "$declines_what"
    [ $tap_result -eq 0 ] || note "status $status: $(cat "$work/stderr" "$work/stdout")"
}
declines 'no inputs' 'absent: no trained heads of 64 tokens' wavelet --inputs absent
declines 'none of this length' 'no trained heads of 32 tokens' coefficient --set n=32
declines 'a misspelt setting' 'boxs.*closest known key' coefficient --set boxs=3
declines 'a number out of range' 'boxes=0' coefficient --set boxes=0
declines 'a length that the Haar basis does not have' 'n = 60.*power of two' wavelet --set n=60
declines 'a head that is not there' "no head 'near-64:9:0'" illustration --set heads=near-64:9:0
declines 'budgets that do not match the scales' '2 budgets for 2 scales' approximation --set 'blocks=1 2'
declines 'scales that do not nest' 'scales' coefficient --set 'scales=16 6'
declines 'an unknown profile' "--profile: 'huge'" wavelet --profile huge
declines 'an unknown option' '--frobnicate' wavelet --frobnicate
declines 'a word too many' "unexpected argument 'now'" wavelet now
declines 'published numbers that are not there' 'absent/efficiency.tsv' entropy --set published=absent
for line in 'window' 'blocks 0.25' 'blocks x 4' 'blocks 1 4 x' 'nothing 1 4'; do
    declines "a method's line: $line" 'related.ini: mra2: ' related --set "mra2=$line"
done
cp -r in broken
npy broken/near-64/example0-k.npy f4 2,64,8 'r(i, 1)'
declines 'arrays that do not match' 'example0-k.npy: shape \(2, 64, 8\), but q of the same example has' wavelet --inputs broken
npy broken/near-64/example0-k.npy f4 2,64,16 'i == 5 ? nan() : r(i, 1)'
declines 'a NaN' 'example0-k.npy' selection --inputs broken
: >broken/near-64/example0-k.npy
declines 'an empty file' 'example0-k.npy' selection --inputs broken
rm broken/near-64/example0-k.npy
declines 'a missing file' 'example0-k.npy' selection --inputs broken
finish
