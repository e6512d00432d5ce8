#!/bin/sh
# The book in a browser: it is woven, every link resolves, no page complains, the search finds, and the page with the sliders
# computes what the program computes.
. "$(dirname "$0")/../tap.sh"
root=${MRA_ROOT:?MRA_ROOT: expected the checkout}
book=$work/book

for tool in gawk pandoc; do
    command -v $tool >/dev/null 2>&1 || {
        skip 'the book' "no $tool here"
        finish
    }
done
passes 'the book is woven' env BOOK="$book" sh "$root/paper/book.sh"
cat "$work/stderr" >"$work/weaving"
gawk -v folder="$book" -f "$root/tests/paper/links.awk" "$book"/*.html >"$work/links"
ok $? 'every link and anchor resolves, and no identifier stands twice on a page'
sed 's/^/# /' "$work/links"
sed 's/href="wavelet.html#sec-wavelet"/href="wavelet.html#sec-wavelets"/' "$book/index.html" >"$work/here/index.html"
! gawk -v folder="$book" -f "$root/tests/paper/links.awk" "$work/here/index.html" "$book/wavelet.html" >"$work/links"
ok $? 'a wrong anchor is seen'
for equation in $(gawk -F'\t' 'NR > 1 && !/^#/ { print $1 }' "$root/paper/equations.tsv" | sort -u); do
    [ "$(cat "$book"/*.html | grep -c "class=\"equation\" id=\"eq-$equation\"")" -eq 1 ] &&
        cat "$book"/*.html | grep -q "class=\"computes\" href=\"[^\"]*#eq-$equation\""
    ok $? "equation $equation has a number, and its function leads back to it"
done

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || :)
[ -n "$browser" ] || {
    skip 'the pages in a browser' 'no chromium here'
    finish
}

# shows PAGE: the page as the browser has it when its scripts are done lands in $work/dom, what it said in $work/said.
shows() {
    timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-dev-shm-usage \
        --user-data-dir="$work/profile" --enable-logging=stderr --virtual-time-budget=60000 --allow-file-access-from-files --dump-dom "$1" \
        >"$work/dom" 2>"$work/chatter"
    grep -a CONSOLE "$work/chatter" >"$work/said"
    [ -s "$work/dom" ]
}

# All pages at once, each in a frame.
{
    echo '<!DOCTYPE html><title>all</title>'
    for page in "$book"/*.html; do echo "<iframe src=\"book/${page##*/}\"></iframe>"; done
} >"$work/all.html"
shows "file://$work/all.html" && [ ! -s "$work/said" ]
ok $? 'no page says anything on the console'
note "$(cat "$work/said")"
{
    cat "$work/all.html"
    echo '<iframe src="book/none.html"></iframe><img src="book/none.png"><script>undefinedFunction()</script>'
} >"$work/wrong.html"
shows "file://$work/wrong.html" && grep -q undefinedFunction "$work/said"
ok $? 'a mistake is heard'

shows "file://$book/index.html?q=specht" && grep -q '<li><a href="coefficient.html#' "$work/dom"
ok $? 'the search finds a section by a word'
shows "file://$book/index.html?q=zygomorphic" && grep -q '<li>nothing found' "$work/dom"
ok $? 'and says when there is none'

# ---- Light and dark, paper

# tells SCRIPT: what a script that runs on the first page leaves in the element `told`.
tells() {
    script="<pre id=\"told\"></pre><script>addEventListener('load', () => { $1 });</script>" \
        gawk '{ at = index($0, "</body>"); print at ? substr($0, 1, at - 1) ENVIRON["script"] substr($0, at) : $0 }' \
        "$book/coefficient.html" >"$book/told.html"
    shows "file://$book/told.html"
    told=$(tr -d '\n' <"$work/dom" | sed -n 's/.*<pre id="told">\([^<]*\)<.*/\1/p')
    rm "$book/told.html"
}
# Twice the button: what the theme is called, the paper's colour, and what is remembered.
tells 'const look = () => document.documentElement.dataset.theme + " " + getComputedStyle(document.body).backgroundColor + " " + localStorage.getItem("theme");
    const button = document.getElementById("theme"), all = []; button.click(); all.push(look()); button.click(); all.push(look());
    document.getElementById("told").textContent = all.join(";");'
[ "$told" = 'dark rgb(23, 25, 28) dark;light rgb(253, 253, 251) light' ]
ok $? 'the button changes between light and dark, and the choice is kept'
[ "$told" ] || note "$told"
# What a printer gets: answers open, no navigation, no fixed width.
tells 'const answers = document.querySelectorAll("details"), open = () => Array.from(answers).filter((answer) => answer.open).length;
    const before = open(); dispatchEvent(new Event("beforeprint")); const sheet = document.querySelector("link[rel=stylesheet]").sheet;
    for (const rule of sheet.cssRules) if (rule.media && rule.media.mediaText === "print") rule.media.mediaText = "all";
    const style = (name) => getComputedStyle(document.querySelector(name));
    document.getElementById("told").textContent = [before, open() === answers.length && open() > 0, style("nav").display, style("main").maxWidth].join(" ");'
[ "$told" = '0 true none none' ]
ok $? 'on paper the answers are open and the navigation is gone'
[ "$told" = '0 true none none' ] || note "$told"
timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
    --print-to-pdf="$work/page.pdf" "file://$book/coefficient.html" >/dev/null 2>&1
[ "$(head -c 5 "$work/page.pdf")" = %PDF- ] && [ "$(wc -c <"$work/page.pdf")" -gt 20000 ]
ok $? 'a chapter prints'

# ---- The page with the sliders

# Where no compiler for it is found: a line, status 3, and a page that says so.
mkdir "$work/bare"
for tool in sh cat mkdir mktemp rm dirname base64 dd sed; do ln -s "$(command -v $tool)" "$work/bare/$tool"; done
cp -r "$book" "$work/without"
run env PATH="$work/bare" sh "$root/paper/explorer/build.sh" "$work/without"
[ "$status" -eq 3 ] && grep -q '^explorer: not built: missing:.* clang.* lld.*(Debian packages)$' "$work/stderr" && [ "$(wc -l <"$work/stderr")" -eq 1 ]
ok $? 'without clang the page is not built: one line says what is missing'
shows "file://$work/without/explorer.html"
[ ! -s "$work/said" ] && grep -q 'made without clang for WebAssembly' "$work/dom"
ok $? 'and the page says so'

if grep -q 'not built' "$work/weaving"; then
    skip 'the page with the sliders' "$(grep -m 1 'not built' "$work/weaving")"
    finish
fi
# The page, telling what it computed: the arrays in base64, as they lie in memory.
sed 's|</body>|<pre id="numbers"></pre><script>\
(function wait() {\
    if (document.documentElement.dataset.explorer !== "ready") return setTimeout(wait, 20);\
    const r = explorer.result, text = (array) => {\
        const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);\
        let all = "";\
        for (let i = 0; i < bytes.length; i += 32768) all += String.fromCharCode(...bytes.subarray(i, i + 32768));\
        return btoa(all);\
    };\
    document.getElementById("numbers").textContent = ["status " + document.getElementById("explorer-status").textContent,\
        "n " + r.n, "d " + r.d, "numbers " + [r.matrixError, r.outputError, r.entropy, r.emptyRows, ...r.boxes].join(" "),\
        "exact " + text(r.exact), "approximation " + text(r.approximation), "side " + text(r.side), "z " + text(r.output),\
        "end"].join("\\n");\
})();</script></body>|; s/^const explorer = /explorer = /' "$book/explorer.html" >"$book/numbers.html"

# The same sources for this machine (tests/paper/explorer.c).
config=${MRA_OUT%/*}/config.mk
# shellcheck disable=SC2046  # the flags are words
passes 'the code of the page, compiled for this machine' "${CC_FOR_TEST:-cc}" -std=c11 -D_GNU_SOURCE -O2 -fopenmp \
    -I"$root/src" -I"$root/experiments" -o "$work/native" "$root/tests/paper/explorer.c" "$root/paper/explorer/explorer.c" \
    "$MRA_OUT/obj/experiments/common_dense.o" "$MRA_OUT/lib/libinner.a" $(sed -n "s/^ALL_LIBS := //p;s/^CUDA_LIBS := //p" "$config") -lm

# halves SET HEAD: Q, K, V of one head as they are stored.
halves() {
    for array in q k v; do
        dd if="$root/paper/inputs/$1/example0-$array.npy" bs=128 skip=$((1 + $2 * 256)) count=256 2>/dev/null
    done
}
# differences TYPE FILE REFERENCE: the largest absolute difference of two raw arrays of float32 or int32 (f4, d4).
differences() {
    od -An -v -t "$1" -w4 "$2" >"$work/column"
    od -An -v -t "$1" -w4 "$3" | paste - "$work/column" | gawk '
        NF != 2 { bad = 1 }
        { d = $1 - $2; if (d < 0) d = -d; if (!(d <= most)) most = d }
        END { if (bad || !NR) print "inf"; else print most + 0 }'
}
below() { awk -v x="$1" -v limit="$2" 'BEGIN { exit !(x != "" && x != "inf" && x + 0 <= limit) }'; }

# computes SETTINGS: the page against the native code, every entry of the exact matrix, of J, of the approximation, of the output,
# and the errors. What the page computed stays in $work/page.*, its slider settings in $scales, $blocks, $t, $sparse, $ranking.
computes() {
    settings=$1 set='' head='' scales='' blocks='' t='' sparse='' ranking=''
    eval "$(echo "$settings" | gawk -v RS='[&\n]' -F= '
        BEGIN { v["head"] = 0; v["coarsest"] = 2; v["steps"] = 1; v["budget"] = 2; v["later"] = 4; v["temperature"] = v["method"] = v["ranking"] = 0 }
        NF == 2 { v[$1] = $2 }
        END {
            split("text-512:0 text-512:3 listops-512:0 listops-512:3", heads, " "); split(heads[v["head"] + 1], head, ":")
            p = 7 - v["coarsest"]; k = v["steps"] < p ? v["steps"] : p
            for (i = 0; i <= k; i++) scales = scales " " 2 ^ int(p * (k - i) / k + 0.5)
            for (i = 1; i <= k; i++) blocks = blocks sprintf(" %.17g", 2 ^ v[i == 1 ? "budget" : "later"])
            printf "set=%s head=%s scales=\"%s\" blocks=\"%s\" t=%.17g sparse=%d ranking=%d", head[1], head[2], scales, blocks,
                2 ^ v["temperature"], v["method"], v["ranking"] }')"
    halves "$set" "$head" >"$work/halves"
    # shellcheck disable=SC2086  # lists of numbers
    "$work/native" "$work/halves" 512 32 "$t" "$sparse" "$ranking" $scales -- $blocks >"$work/result" || note 'the native code failed'
    shows "file://$book/numbers.html#$settings"
    for array in exact approximation side z; do sed -n "s/^$array \([^<]*\).*/\1/p" "$work/dom" | base64 -d >"$work/page.$array"; done
    at=0
    for array in exact:1048576 approximation:1048576 side:1048576 z:65536; do
        tail -c +$((at + 1)) "$work/result" | head -c "${array#*:}" >"$work/native.${array%:*}"
        at=$((at + ${array#*:}))
    done
    tail -c 96 "$work/result" | od -An -v -t f8 -w8 >"$work/native.numbers"
    apart=$(differences d4 "$work/page.side" "$work/native.side")
    [ ! -s "$work/said" ] && grep -q '>status $' "$work/dom" && [ "$apart" = 0 ]
    ok $? "$settings: J on the page is that of the C program, entry by entry"
    for array in exact approximation; do
        apart=$(differences f4 "$work/page.$array" "$work/native.$array")
        below "$apart" 1e-5
        ok $? "$settings: $array, entry by entry, to 1e-5 (largest difference $apart)"
    done
    apart=$(differences f4 "$work/page.z" "$work/native.z")
    below "$apart" "$(od -An -v -t f4 -w4 "$work/native.z" | gawk '{ x = $1 < 0 ? -$1 : $1; if (x > most) most = x } END { print 1e-5 * most }')"
    ok $? "$settings: the output, to 1e-5 of its largest (largest difference $apart)"
    sed -n 's/^numbers //p' "$work/dom" | tr ' ' '\n' | paste - "$work/native.numbers" | gawk '
        NF == 2 { d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * ($2 > 1 ? $2 : 1)) { print "# " $0; bad = 1 }; rows++ }
        END { exit bad || rows < 6 }'
    ok $? "$settings: errors, entropy and counts of boxes, to 1e-5"
}

# array_of NAME FACTOR: NAME.npy with the head of $work/halves, float32; heads: 16 times, so that values can be the identity.
array_of() {
    npy "$1.npy" f4 16,512,32 "((\"cat $work/$1.txt\" | getline y) > 0 ? y + 0 : nan())"
}
# attends METHOD OPTION...: what the page shows against the program: A-hat and A by attending to the identity, 32 columns at a time.
attends() {
    method=$1
    shift
    for array in 0:q 1:k; do
        tail -c +$((${array%:*} * 32768 + 1)) "$work/halves" | head -c 32768 | od -An -v -t u2 -w2 | gawk -v factor="$t" '
            { e = int($1 / 1024) % 32; m = $1 % 1024; x = e == 0 ? m * 2 ^ -24 : (1 + m / 1024) * 2 ^ (e - 15)
              row[NR] = ($1 >= 32768 ? -x : x) * sqrt(factor) }
            END { for (head = 0; head < 16; head++) for (i = 1; i <= NR; i++) printf "%.9g\n", row[i] }' >"$work/${array#*:}.txt"
        array_of "${array#*:}"
    done
    # shellcheck disable=SC2016  # for awk
    npy v.npy f4 16,512,32 '(int(i / 32) % 512 == i % 32 + 32 * int(i / 16384))'
    what="mra attend --method $method $*"
    for option; do set -- "$@" --set "$option"; shift; done
    passes "$what" "$mra" attend --method "$method" "$@" --q q.npy --k k.npy --v v.npy --out z.npy --quiet
    passes 'mra attend --method exact' "$mra" attend --method exact --q q.npy --k k.npy --v v.npy --out exact.npy --quiet
    for pair in z:approximation exact:exact; do
        # [16, 512, 32] to the rows of [512, 512].
        values "${pair%:*}.npy" | gawk '{ at = NR - 1; head = int(at / 16384); row = int(at / 32) % 512; x[row * 512 + 32 * head + at % 32] = $1 }
            END { for (i = 0; i < 262144; i++) print x[i] }' >"$work/matrix"
        apart=$(od -An -v -t f4 -w4 "$work/page.${pair#*:}" | paste - "$work/matrix" | gawk '
            { d = $1 - $2; if (d < 0) d = -d; if (!(d <= most)) most = d } END { print NR == 262144 ? most + 0 : "inf" }')
        below "$apart" 1e-5
        ok $? "$settings: ${pair#*:} on the page and by $what, entry by entry, to 1e-5 (largest difference $apart)"
    done
}
computes 'head=0'
attends mra2 blocks=4
computes 'head=1&steps=3&coarsest=1&budget=2&later=3&ranking=1&temperature=-2'
attends mra scales=64:16:4:1 blocks=4:8:8 ranking=plain
# Settings at random, with logits as they are or smaller: the rounding of float32 logits grows with them, and a matrix product in another
# order is then not the same to 1e-5.
seed=${MRA_TEST_SEED:-$(date +%s)}
note "random settings: MRA_TEST_SEED=$seed"
for i in 1 2; do
    computes "$(gawk -v seed="$seed" -v i="$i" 'BEGIN { srand(seed + 1000 * i)
        printf "head=%d&coarsest=%d&steps=%d&budget=%.2f&later=%.2f&temperature=%.2f&method=%d&ranking=%d", 4 * rand(), 6 * rand(),
            1 + 4 * rand(), int(17 * rand()) / 4 - 1, int(21 * rand()) / 4 - 1, int(17 * rand()) / 4 - 4, 2 * rand(), 2 * rand() }')"
done
finish
