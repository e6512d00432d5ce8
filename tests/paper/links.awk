# links.awk: whether every link and anchor of a folder of pages resolves.
#
# usage: gawk -v folder=DIR -f links.awk DIR/*.html
#
# Prints a line for each link to a page, file or anchor that is not there and for each identifier that a page has twice;
# links to other places (http) are left alone. Status 1 if there is any.
function exists(file,   line, ok) { ok = (getline line < file) >= 0; close(file); return ok }
function complain(text) { print text; bad = 1 }
BEGIN { RS = "<"; FS = "\n" }
FNR == 1 { page = FILENAME; sub(/.*\//, "", page); pages[page] = 1 }
# Records are tags, as "a href=...>text".
/^[a-zA-Z]/ {
    tag = $0; sub(/>.*/, "", tag)
    if (match(tag, /[ \n]id="([^"]*)"/, found)) {
        if ((page, found[1]) in anchors) complain(page ": identifier " found[1] " twice")
        anchors[page, found[1]] = 1
    }
    if (match(tag, /[ \n](href|src)="([^"]*)"/, found)) links[page, ++count[page]] = found[2]
}
END {
    for (page in pages) for (i = 1; i <= count[page]; i++) {
        link = links[page, i]; total++
        if (link ~ /^(https?|data|mailto):/) continue
        cut = index(link, "#"); file = cut ? substr(link, 1, cut - 1) : link; anchor = cut ? substr(link, cut + 1) : ""
        if (file == "") file = page
        if (!(file in pages) && !exists(folder "/" file)) complain(page ": " link ": no such file")
        else if (anchor != "" && file in pages && !((file, anchor) in anchors)) complain(page ": " link ": no such anchor")
    }
    if (total == 0) complain("no links at all")
    exit bad
}
