#!/bin/sh
# Weaves the book: build/book/index.html, one page a chapter, prose beside the code of src/.
#
# usage: sh paper/book.sh            (make book)
#
# Figures and tables come from the fullest profile that was run here; what no run produced is said to be missing.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
book=${BOOK:-build/book}
code=1
scripts=yes
profile=none
for candidate in paper reduced laptop smoke; do
    if [ -d "build/results/$candidate" ]; then profile=$candidate; break; fi
done
results=build/results/$profile figures=build/figures/$profile
. paper/pages.sh
mkdir -p "$book"
cp paper/style.css paper/book.js paper/explorer/explorer.js "$book/"
copy_figures "$figures" "$book"
[ "$profile" = none ] || sh paper/audit.sh "$profile" >/dev/null
# The page with the sliders says what is missing where the browser's code cannot be compiled (status 3).
status=0
sh paper/explorer/build.sh "$book" || status=$?
case $status in
0 | 3) ;;
*) exit "$status" ;;
esac

commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
footer="Woven from the sources at commit $commit; results of profile $profile."
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT

# Links to sections of other chapters: #sec-name -> page.html#sec-name.
chapters | while read -r chapter; do
    name=$(identifier "$chapter")
    [ -z "$name" ] || echo "s|](#$name)|]($(page_of "$chapter")#$name)|g"
done >"$pages/links.sed"

# The links below a chapter: to the one before and the one after.
turn_page() { # turn_page CHAPTER
    before=$(chapters | grep -B 1 -xF "$1" | head -n 1) after=$(chapters | grep -A 1 -xF "$1" | tail -n 1)
    echo '<p class="turn">'
    if [ "$before" = "$1" ]; then echo '<span></span>'; else echo "<a rel=\"prev\" href=\"$(page_of "$before")\">← $(title "$before")</a>"; fi
    if [ "$after" = "$1" ]; then echo '<span></span>'; else echo "<a rel=\"next\" href=\"$(page_of "$after")\">$(title "$after") →</a>"; fi
    echo '</p>'
}

chapters | while read -r chapter; do
    page=$(page_of "$chapter")
    {
        echo '<ol>'
        chapters | while read -r other; do
            current=
            [ "$other" != "$chapter" ] || current=' aria-current="page"'
            echo "<li><a href=\"$(page_of "$other")\"$current>$(title "$other")</a></li>"
        done
        echo '</ol>'
    } >"$pages/nav.html"
    turn=$(turn_page "$chapter")
    expand "$chapter" | sed -f "$pages/links.sed" |
        sed -E "s,\\]\\(((src|paper|kernels)/[^)]*)\\),](source/\\1.txt),g" |
        to_html "$book/$page" book "$(title "$chapter")" "$pages/nav.html" "$footer"
done

finished=$(chapters | while read -r chapter; do echo "$book/$(page_of "$chapter")"; done)
# shellcheck disable=SC2086  # names of chapters have no blanks
number_pages chapters $finished
# shellcheck disable=SC2086
gawk -f paper/index.awk $finished >"$book/search-index.js"

# The sources themselves, for the links at the head of each woven file.
grep -h '^@code' paper/chapters/*.md | cut -d' ' -f2 | while read -r source; do
    mkdir -p "$book/source/$(dirname "$source")"
    cp "$source" "$book/source/$source.txt"
done
echo "book: $book/index.html"
