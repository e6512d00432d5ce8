# number.awk: numbers the displayed equations of finished pages and ties them to the functions that compute them.
#
# usage: gawk -v map=paper/equations.tsv [-v chapters=1] -f paper/number.awk PAGE.html ...    (in the order of the book)
#
# Every displayed equation gets a number, chapter.equation (chapters=1) or the equation's alone, and an anchor. A chapter
# names one that it refers to by [](){#eq-NAME} before it; an empty link [](#eq-NAME), on any page, becomes its number.
# Each row of the map (equation, file, function) puts a link to the function beside the equation and the equation's number at
# the function's first line. A function named in prose is linked to its definition. The pages are rewritten in place.
# A name without an equation, an equation named twice or a row of the map that fits nothing is an error.
function fail(text) { print "number.awk: " text > "/dev/stderr"; failed = 1 }
function basename_of(path) { sub(/.*\//, "", path); return path }
function plain(html) {
    gsub(/<[^>]*>/, "", html); gsub(/&lt;/, "<", html); gsub(/&gt;/, ">", html); gsub(/&amp;/, "\\&", html)
    return html
}
# The function that a line of code begins to define, or "".
function defined(line,   found) {
    sub(/^EXPORT\([a-z_]*\) /, "", line)
    if (line ~ /;[ \t]*$/ || line ~ /^(return|else|typedef|enum|struct [a-z_]* \{|#)/) return ""
    if (match(line, /^[A-Za-z_][A-Za-z0-9_ *]*[ *]([a-z_][a-z0-9_]*)\(/, found)) return found[1]
    return ""
}
# First pass over one page: numbers, names, definitions.
function collect(page, text,   part, count, i, number, label, line, lines, file, name, found, mark) {
    count = split(text, part, /<math display="block"/)
    for (i = 2; i <= count; i++) {
        number = (chapters ? chapter "." : "") (chapters ? i - 1 : ++running)
        label = "eq-" (chapters ? chapter "-" (i - 1) : running)
        if (match(part[i - 1], /<span id="(eq-[a-z0-9-]+)">(<\/span>)?[ \n]*$/, found)) {
            label = found[1]
            if (label in number_of) fail(page ": " label " names two equations")
        }
        anchor[page, i] = label; number_of[label] = number; page_of[label] = page
    }
    count = split(text, lines, "\n")
    for (i = 1; i <= count; i++) {
        if (match(lines[i], /^<p><a href="source\/([^"]*)\.txt"/, found)) file = found[1]
        if (lines[i] !~ /<span id="cb[0-9]+-[0-9]+"/) continue
        line = plain(lines[i]); name = defined(line)
        if (name == "" || (file, name) in at) continue
        mark = "fn-" gensub(/[^a-z0-9_]/, "-", "g", basename_of(file)) "-" name
        at[file, name] = page "#" mark
        mark_of[page, i] = mark; key_of[page, i] = file SUBSEP name
        if (name ~ /^(mra|explorer)_/ && !(name in public)) public[name] = page "#" mark
    }
}
function link_to(target, page,   cut) {
    cut = page "#"
    return index(target, cut) == 1 ? substr(target, length(page) + 1) : target
}
function equations(page, text,   part, sep, count, i, out, end, label, by, k) {
    count = split(text, part, /<math display="block"/)
    out = part[1]
    for (i = 2; i <= count; i++) {
        label = anchor[page, i]
        sub("<span id=\"" label "\"></span>[ \n]*$", "", out)
        by = ""
        for (k = 1; k <= functions[label]; k++)
            by = by (k > 1 ? ", " : "") "<a href=\"" link_to(at[function_of[label, k]], page) "\"><code>" \
                gensub(/.*\034/, "", 1, function_of[label, k]) "</code></a>"
        if (by != "") by = "<span class=\"by\">computed by " by "</span>"
        end = index(part[i], "</math>") + 6
        out = out "<span class=\"equation\" id=\"" label "\"><math display=\"block\"" substr(part[i], 1, end) \
            "<a class=\"number\" href=\"#" label "\">(" number_of[label] ")</a>" by "</span>" substr(part[i], end + 1)
    }
    return out
}
# Empty links to equations, and inline code that names a function.
function references(page, text,   out, found, label, name) {
    while (match(text, /<a href="#(eq-[a-z0-9-]+)"><\/a>/, found)) {
        label = found[1]
        if (!(label in number_of)) { fail(page ": no equation is named " label); number_of[label] = "?" }
        out = out substr(text, 1, RSTART - 1) "<a href=\"" link_to(page_of[label] "#" label, page) "\">(" number_of[label] ")</a>"
        text = substr(text, RSTART + RLENGTH)
    }
    text = out text; out = ""
    while (match(text, /<code>((mra|explorer)_[a-z0-9_]+)<\/code>/, found)) {
        name = found[1]
        out = out substr(text, 1, RSTART - 1)
        if (name in public && out !~ /<a [^>]*>$/) out = out "<a href=\"" link_to(public[name], page) "\">" found[0] "</a>"
        else out = out found[0]
        text = substr(text, RSTART + RLENGTH)
    }
    return out text
}
function definitions(page, text,   lines, count, i, k, out, back, key) {
    count = split(text, lines, "\n")
    for (i = 1; i <= count; i++) {
        if ((page, i) in mark_of) {
            key = key_of[page, i]; back = ""
            for (k = 1; k <= equations_of[key]; k++)
                back = back " <a class=\"computes\" href=\"" link_to(page_of[equation_of[key, k]] "#" equation_of[key, k], page) \
                    "\">equation (" number_of[equation_of[key, k]] ")</a>"
            sub(/<\/a>/, "</a><span class=\"definition\" id=\"" mark_of[page, i] "\"></span>", lines[i])
            if (back != "") sub(/<\/span>(<\/code>.*)?$/, back "&", lines[i])
        }
        out = out lines[i] (i < count ? "\n" : "")
    }
    return out
}
BEGIN { RS = "^$" }
{ pages[++total] = FILENAME; base[total] = basename_of(FILENAME); chapter = total - 1; content[total] = $0; collect(base[total], $0) }
END {
    RS = "\n"
    while ((getline line < map) > 0) {
        if (line ~ /^(#|equation\t)/ || split(line, cell, "\t") != 3) continue
        key = cell[2] SUBSEP cell[3]; label = "eq-" cell[1]
        if (!(label in number_of)) { fail(map ": no equation is named " cell[1]); continue }
        if (!(key in at)) { if (chapters) fail(map ": " cell[2] ": no function " cell[3] " on any page"); continue }
        function_of[label, ++functions[label]] = key
        equation_of[key, ++equations_of[key]] = label
    }
    for (p = 1; p <= total && !failed; p++)
        printf "%s", references(base[p], equations(base[p], definitions(base[p], content[p]))) > (pages[p] ".numbered")
    exit failed ? 2 : 0
}
