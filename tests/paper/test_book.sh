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
        --user-data-dir="$work/profile" --enable-logging=stderr --virtual-time-budget=60000 --dump-dom "$1" \
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

# ---- The page with the sliders

if grep -q 'not built' "$work/weaving"; then
    skip 'the page with the sliders' "$(grep -m 1 'not built' "$work/weaving")"
    finish
fi
sed 's|</body>|<pre id="numbers"></pre><script>\
(function wait() {\
    if (document.documentElement.dataset.explorer !== "ready") return setTimeout(wait, 20);\
    const r = explorer.result, list = (name, values) => Array.from(values, (x) => name + " " + x).join("\\n");\
    document.getElementById("numbers").textContent = ["status " + document.getElementById("explorer-status").textContent,\
        "n " + r.n, "d " + r.d, "error " + r.outputError, "boxes " + r.boxes.join(" "), list("z", r.output)].join("\\n");\
})();</script></body>|; s/^const explorer = /explorer = /' "$book/explorer.html" >"$book/numbers.html"

# scaled SET HEAD FACTOR: q.npy, k.npy (times FACTOR) and v.npy of one head, of float32.
scaled() {
    for array in q k v; do
        factor=$3
        [ $array != v ] || factor=1
        dd if="$root/paper/inputs/$1/example0-$array.npy" bs=128 skip=$((1 + $2 * 256)) count=256 2>/dev/null >"$work/half"
        od -An -v -t u2 -w2 "$work/half" | gawk -v factor="$factor" '
            { e = int($1 / 1024) % 32; m = $1 % 1024; x = e == 0 ? m * 2 ^ -24 : (1 + m / 1024) * 2 ^ (e - 15)
              print ($1 >= 32768 ? -x : x) * factor }' OFMT=%.9g CONVFMT=%.9g >"$work/$array.txt"
        npy $array.npy f4 512,32 "((\"cat $work/$array.txt\" | getline y) > 0 ? y + 0 : nan())"
    done
}

# agrees SETTINGS SET HEAD SQUARE-ROOT-OF-T METHOD OPTION...: the page against the program.
agrees() {
    settings=$1 set=$2 head=$3 factor=$4 method=$5
    shift 5
    scaled "$set" "$head" "$factor"
    what="$settings: the page and mra attend --method $method $*"
    for option; do set -- "$@" --set "$option"; shift; done
    run "$mra" attend --method "$method" "$@" --q q.npy --k k.npy --v v.npy --out z.npy
    [ "$status" -eq 0 ] || note "$(cat "$work/stderr")"
    run "$mra" attend --method exact --q q.npy --k k.npy --v v.npy --out exact.npy
    shows "file://$book/numbers.html#$settings"
    sed -n 's/^z \([^<]*\).*/\1/p' "$work/dom" >"$work/page.txt"
    [ ! -s "$work/said" ] && grep -q '>status $' "$work/dom" && [ "$(wc -l <"$work/page.txt")" -eq 16384 ] &&
        close_to z.npy "$work/page.txt" 1e-5
    ok $? "$what agree to 1e-5"
    values exact.npy >"$work/exact.txt"
    values z.npy | paste - "$work/exact.txt" | gawk -v page="$(sed -n 's/^error //p' "$work/dom")" '
        { e += ($1 - $2) ^ 2; s += $2 ^ 2 }
        END { mine = sqrt(e / s); d = mine - page; if (d < 0) d = -d
              if (!(page > 0) || d > 1e-5) { print "# error on the page " page ", of the program " mine; exit 1 } }'
    ok $? 'and so does the relative error of the output'
}
agrees 'head=0' text-512 0 1 mra2 blocks=4
agrees 'head=3&method=1&budget=1&temperature=4' listops-512 3 4 mra2s blocks=2
agrees 'head=1&steps=3&coarsest=1&budget=2&later=3&ranking=1&temperature=-2' text-512 3 0.5 mra scales=64:16:4:1 blocks=4:8:8 ranking=plain
finish
