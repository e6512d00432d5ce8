# expand.awk: fills a chapter's directives with figures, tables and sources.
#
# usage: gawk -v results=DIR -v figures=DIR -v root=. -v code=1 -v before=FIGURES-OF-EARLIER-CHAPTERS -f paper/expand.awk chapter.md
#
#   @code PATH                        the woven source (paper/weave.awk)
#   @figure NAME | caption            figures/NAME.svg, as drawn by figures/NAME.gp, with the command that draws it
#   @table FILE.tsv | caption | a b=label c   columns of a result (or of a file under paper/ or experiments/), in this order,
#                                     relabelled where asked; none named: all; columns of numbers to the right
#   @command TEXT                     a command line that a reader can run
# A figure or table that this profile did not produce is said to be missing, with the command that makes it.
function trim(s) { gsub(/^[ \t]+|[ \t]+$/, "", s); return s }
function escape(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); gsub(/"/, "\\&quot;", s); return s }
function exists(file,   line, ok) { ok = (getline line < file) >= 0; close(file); return ok }
function number(s) {
    if (s !~ /^-?[0-9.]+([eE][-+]?[0-9]+)?$/) return s
    if (s ~ /^-?[0-9]+$/) return s
    return sprintf("%.4g", s)
}
function figure(text,   part, name, caption) {
    split(text, part, "|"); name = trim(part[1]); caption = trim(part[2])
    number_of_figure = ++before; profile = results; sub(/.*\//, "", profile)
    if (!exists(figures "/" name ".svg")) {
        print "\n*The figure “" caption "” is not part of this profile; `make reproduce` draws it.*\n"
        return
    }
    print "\n<figure id=\"figure-" name "\">\n<img src=\"figures/" name ".svg\" alt=\"" escape(caption) "\" loading=\"lazy\" />"
    print "<figcaption>\n\n**Figure " number_of_figure ".** " caption " Drawn by `sh experiments/reproduce.sh --profile " profile " --only " name "` (`figures/" name ".gp`).\n\n</figcaption>\n</figure>\n"
}
function table(text,   part, file, caption, want, count, i, column, label, head, rows, cell, pair, line, words, body, r) {
    split(text, part, "|"); file = trim(part[1]); caption = trim(part[2])
    file = (file ~ /^(paper|experiments)\// ? root : results) "/" file
    count = split(trim(part[3]), want, /[ \t]+/)
    if ((getline line < file) <= 0) {
        print "\n*The table “" caption "” is not part of this profile; `make reproduce` makes it.*\n"
        return
    }
    head = split(line, cell, "\t")
    for (i = 1; i <= head; i++) column[cell[i]] = i
    if (count == 0) for (i = 1; i <= head; i++) want[++count] = cell[i]
    for (i = 1; i <= count; i++) {
        split(want[i], pair, "="); label[i] = pair[2] == "" ? pair[1] : pair[2]; gsub(/_/, " ", label[i])
        want[i] = pair[1]
        if (!(want[i] in column)) { print "expand.awk: " file ": no column " want[i] > "/dev/stderr"; exit 2 }
    }
    while ((getline line < file) > 0) {
        split(line, cell, "\t"); rows++
        for (i = 1; i <= count; i++) {
            body[rows, i] = cell[column[want[i]]]
            if (body[rows, i] !~ /^(-|[-+]?[0-9.]+([eE][-+]?[0-9]+)?)?$/) words[i] = 1
        }
    }
    close(file)
    printf "\n"
    for (i = 1; i <= count; i++) printf "| %s ", label[i]
    print "|"
    for (i = 1; i <= count; i++) printf "|%s", (i == 1 || words[i] ? "---" : "---:")
    print "|"
    for (r = 1; r <= rows; r++) {
        for (i = 1; i <= count; i++) printf "| %s ", number(body[r, i])
        print "|"
    }
    print "\nTable: " caption "\n"
}
/^@code / {
    path = trim(substr($0, 7))
    if (!code) { print "\n*Code: `" path "`, woven with its commentary by `make book`.*\n"; next }
    command = "gawk -v path=" path " -f " root "/paper/weave.awk " root "/" path
    while ((command | getline line) > 0) print line
    close(command)
    next
}
/^@figure / { figure(substr($0, 9)); next }
/^@table / { table(substr($0, 8)); next }
/^@command / { print "\n``` {.sh .command}\n" substr($0, 10) "\n```\n"; next }
{ print }
