#!/bin/sh
# What report.sh and book.sh share: chapters to HTML by awk and pandoc, formulas as MathML, no network.
#
# Sourced, not run; the script that sources it sets these (folders; code=1: weave the sources in), and may set scripts (the page
# has book.js) and turn (links to the pages before and after):
: "${root:?}" "${results:?}" "${figures:?}" "${code:?}"

# The chapters in the order of the talk; those from 50 on (kernels, training, audit, the page with the sliders, symbols) are
# the book's alone.
chapters() {
    ls "$root"/paper/chapters/[0-4]*.md
    [ "$code" = 0 ] || ls "$root"/paper/chapters/[5-9]*.md
}

# title FILE, identifier FILE: from the chapter's heading `# Title {#sec-name}`.
title() { sed -n '1s/^# *//;1s/ *{#.*}$//;1p' "$1"; }
identifier() { sed -n '1s/.*{#\(.*\)}.*/\1/p' "$1"; }
page_of() { basename "$1" .md | sed 's/^00-.*/index/;s/^[0-9]*-//;s/$/.html/'; }

# expand FILE: the chapter with its directives filled in. Figures are numbered through all chapters.
expand() {
    before=0
    for earlier in $(chapters); do
        if [ "$earlier" = "$1" ]; then break; fi
        before=$((before + $(grep -c '^@figure ' "$earlier" || :)))
    done
    gawk -v before="$before" -v results="$results" -v figures="$figures" -v root="$root" -v code="$code" \
        -f "$root/paper/expand.awk" "$1"
}

# to_html OUT KIND TITLE NAVFILE FOOTER: Markdown on stdin.
to_html() {
    pandoc --from=markdown+tex_math_dollars+fenced_divs+raw_html+autolink_bare_uris-implicit_figures \
        --to=html5 --wrap=none --mathml --section-divs --standalone --template="$root/paper/template.html" \
        --highlight-style=monochrome \
        --variable=kind:"$2" --metadata=pagetitle:"$3" --variable=nav:"$(cat "$4")" \
        ${scripts:+--variable=scripts:yes} ${turn:+"--variable=turn:$turn"} --variable=footer:"$5" --fail-if-warnings --output="$1.tmp"
    mv "$1.tmp" "$1"
}

# copy_figures FROM TO: the drawn figures, if any.
copy_figures() {
    mkdir -p "$2/figures"
    if [ -d "$1" ]; then
        for figure in "$1"/*.svg; do
            [ -e "$figure" ] && cp "$figure" "$2/figures/"
        done
    fi
    return 0
}

# number_pages [chapters] PAGE...: numbers the equations of finished pages and links them to the code (number.awk).
number_pages() {
    by_chapter=0
    if [ "$1" = chapters ]; then by_chapter=1; shift; fi
    gawk -v map="$root/paper/equations.tsv" -v chapters=$by_chapter -f "$root/paper/number.awk" "$@"
    for page; do mv "$page.numbered" "$page"; done
}
