# weave.awk: a C source becomes a chapter, prose on the left, code on the right.
#
# usage: gawk -v path=src/mra/wavelet.c -f paper/weave.awk src/mra/wavelet.c
#
# The rule is the one that the sources are written by: a block of `//` comments at column 0 is prose (Markdown with
# TeX math), everything else is code. A prose block and the code below it, up to the next prose block, make a
# pair. Nothing is left out and nothing is reordered, so the woven chapter is the file.
function flush_pair() {
    if (prose == "" && code ~ /^[ \t\n]*$/) { prose = code = ""; return }
    sub(/^\n+/, "", code); sub(/[ \t\n]+$/, "", code)
    print "::::: {.pair}"
    print "::: {.prose}\n" prose "\n:::"
    if (code != "")
        printf "::: {.code}\n~~~~~~~~ {.c .numberLines startFrom=\"%d\"}\n%s\n~~~~~~~~\n:::\n", first_code, code
    print ":::::\n"
    prose = code = ""
}
BEGIN { print "::: {.source}\n[`" path "`](" path ")\n:::\n" }
/^\/\/($|[^\/])/ {
    if (in_code) { flush_pair(); in_code = 0 }
    line = $0
    sub(/^\/\/ ?/, "", line)
    if (line ~ /^#+ /) line = "#" line # a source's heading stands below the chapter's
    prose = prose line "\n"
    next
}
{
    if (!in_code && $0 ~ /^[ \t]*$/) {
        # A blank line between two comment blocks separates paragraphs.
        if (prose != "") prose = prose "\n"
        next
    }
    if (!in_code) first_code = FNR
    in_code = 1
    code = code $0 "\n"
}
END { flush_pair() }
