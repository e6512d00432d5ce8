# expand.awk: fills a chapter's directives with figures, tables and sources.
#
# usage: gawk -v results=DIR -v figures=DIR -v root=. -v code=1 -v before=FIGURES-OF-EARLIER-CHAPTERS -f paper/expand.awk chapter.md
#
#   @code PATH                        the woven source (paper/weave.awk)
#   @figure NAME | caption            figures/NAME.svg, as drawn by figures/NAME.gp, with the command that draws it
#   @table FILE.tsv | caption | a b=label c   columns of a result (or of a file under paper/ or experiments/), in this order,
#                                     relabelled where asked; none named: all; columns of numbers to the right
#   @table A.tsv + B.tsv | ...        rows of A, with the columns that only B has: means over the rows of B that agree with the row
#                                     of A in all columns that both have, `rows_joined` their number; - where there are none
#   @pivot FILE.tsv | caption | a b | c=d    a row for each pair of a and b, a column for each c, in their order; the cells are d
#   @command TEXT                     a command line that a reader can run
# A figure or table that this profile did not produce is said to be missing, with the command that makes it.
BEGIN {
    class_of["holds"] = "holds"; class_of["fails"] = "fails"; class_of["not measured here"] = "unmeasured"
    dashes = sprintf("%50s", ""); gsub(/ /, "-", dashes)
}
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
    print "\n<figure id=\"figure-" name "\">\n<a href=\"figures/" name ".svg\"><img src=\"figures/" name ".svg\" alt=\"" escape(caption) "\" loading=\"lazy\" /></a>"
    print "<figcaption>\n\n**Figure " number_of_figure ".** " caption " Drawn by `sh experiments/reproduce.sh --profile " profile " --only " name "` (`figures/" name ".gp`).\n\n</figcaption>\n</figure>\n"
}
# The rows of a table and where its columns are: cell_of[row, column], column_of[name]. Returns the number of rows, -1 without a file.
function load(file,   line, cell, count, i, rows) {
    delete column_of; delete cell_of
    if ((getline line < file) <= 0) { close(file); return -1 }
    count = split(line, cell, "\t")
    for (i = 1; i <= count; i++) column_of[cell[i]] = i
    while ((getline line < file) > 0) {
        rows++
        count = split(line, cell, "\t")
        for (i = 1; i <= count; i++) cell_of[rows, i] = cell[i]
    }
    close(file)
    return rows + 0
}
# Adds to the table that is loaded (rows rows) the columns that only `other` has.
function join(rows, other,   mine, cells, key, name, r, i, row, width, added, count, sum, other_rows, same) {
    for (name in column_of) { mine[name] = column_of[name]; if (mine[name] > width) width = mine[name] }
    for (r = 1; r <= rows; r++) for (i = 1; i <= width; i++) cells[r, i] = cell_of[r, i]
    other_rows = load(other)
    for (name in column_of) if (!(name in mine)) key[name] = width + ++added
    key["rows_joined"] = width + ++added
    for (r = 1; r <= rows; r++) {
        count = 0; delete sum
        for (row = 1; row <= other_rows; row++) {
            same = 1
            for (name in mine) if (name in column_of && cells[r, mine[name]] != cell_of[row, column_of[name]]) same = 0
            if (!same) continue
            count++
            for (name in column_of) sum[name] += cell_of[row, column_of[name]]
        }
        for (name in key) cells[r, key[name]] = count ? sum[name] / count : "-"
        cells[r, key["rows_joined"]] = count ? count : "-"
    }
    for (name in key) mine[name] = key[name]
    delete column_of; delete cell_of
    for (name in mine) column_of[name] = mine[name]
    for (i in cells) cell_of[i] = cells[i]
}
function column(file, name) {
    if (!(name in column_of)) { print "expand.awk: " file ": no column " name > "/dev/stderr"; exit 2 }
    return column_of[name]
}
# body[1 .. rows, 1 .. count] below the labels; columns of numbers to the right. Where a row is long, the widths of columns of words
# are in proportion to their cells. A verdict is shown as one.
function markdown(label, count, body, rows, caption,   i, r, line, ruler, words, wide, cell) {
    for (i = 1; i <= count; i++) {
        words = i == 1; wide = length(label[i])
        for (r = 1; r <= rows; r++) {
            cell = number(body[r, i])
            if (cell !~ /^(-|inf|[-+]?[0-9.]+([eE][-+]?[0-9]+)?)?$/) words = 1
            if (length(cell) > wide) wide = length(cell)
            if (cell in class_of) cell = "[" cell "]{." class_of[cell] "}"
            gsub(/</, "\\<", cell)
            body[r, i] = cell
        }
        line = line "| " label[i] " "
        ruler = ruler "|-" substr(dashes, 1, wide < 3 ? 3 : wide > 45 ? 45 : wide) (words ? "" : ":")
    }
    print "\n" line "|\n" ruler "|"
    for (r = 1; r <= rows; r++) {
        line = ""
        for (i = 1; i <= count; i++) line = line "| " body[r, i] " "
        print line "|"
    }
    print "\nTable: " caption "\n"
}
# The file of a directive, or "" after saying that this profile did not make it.
function located(name, caption,   file) {
    file = (name ~ /^(paper|experiments)\// ? root : results) "/" name
    if (load(file) >= 0) return file
    print "\n*The table “" caption "” is not part of this profile; `make reproduce` makes it.*\n"
    return ""
}
function table(text,   part, file, caption, want, count, i, label, pair, body, rows, r, names, source, other) {
    split(text, part, "|"); caption = trim(part[2])
    if (split(part[1], source, "+") == 2 && (other = located(trim(source[2]), caption)) == "") return
    if ((file = located(trim(source[1]), caption)) == "") return
    rows = load(file)
    if (other != "") join(rows, other)
    count = split(trim(part[3]), want, /[ \t]+/)
    if (count == 0) {
        PROCINFO["sorted_in"] = "@val_num_asc"
        for (i in column_of) want[++count] = i
        delete PROCINFO["sorted_in"]
    }
    for (i = 1; i <= count; i++) {
        split(want[i], pair, "="); label[i] = pair[2] == "" ? pair[1] : pair[2]; gsub(/_/, " ", label[i])
        for (r = 1; r <= rows; r++) body[r, i] = cell_of[r, column(file, pair[1])]
    }
    markdown(label, count, body, rows, caption)
}
function pivot(text,   part, file, caption, key, keys, pair, rows, i, r, name, row, at, row_count, column_count, label, body) {
    split(text, part, "|"); caption = trim(part[2])
    if ((file = located(trim(part[1]), caption)) == "") return
    rows = load(file); keys = split(trim(part[3]), key, /[ \t]+/)
    split(trim(part[4]), pair, "=")
    for (i = 1; i <= keys; i++) label[i] = key[i]
    column_count = keys
    for (r = 1; r <= rows; r++) {
        name = ""
        for (i = 1; i <= keys; i++) name = name SUBSEP cell_of[r, column(file, key[i])]
        if (!(name in row)) {
            row[name] = ++row_count
            for (i = 1; i <= keys; i++) body[row_count, i] = cell_of[r, column(file, key[i])]
        }
        i = cell_of[r, column(file, pair[1])]
        if (!(i in at)) { at[i] = ++column_count; label[column_count] = pair[1] " " number(i) }
        body[row[name], at[i]] = cell_of[r, column(file, pair[2])]
    }
    for (i = 1; i <= column_count; i++) gsub(/_/, " ", label[i])
    markdown(label, column_count, body, row_count, caption)
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
/^@pivot / { pivot(substr($0, 8)); next }
/^@command / { print "\n``` {.sh .command}\n" substr($0, 10) "\n```\n"; next }
{ print }
