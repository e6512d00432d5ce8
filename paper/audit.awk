# audit.awk: evaluates the claims ledger against the results of a profile.
#
# usage: gawk -v results=DIR [-v published=DIR] -f paper/audit.awk paper/claims.tsv
#
# A claim is a comparison `left op right` of two measures. A measure is a number or
#
#     [FACTOR*]AGGREGATE:COLUMN FILE [KEY=VALUE ...]
#
# the aggregate (mean, median, min, max, sum, count, falls) of a column over the rows of a result whose keys match; FILE is
# looked for in the results folder, or in paper/published for `published/FILE`. `falls` is 1 if the column falls from row to row
# and 0 otherwise. A measure without a file or a matching row was not measured here.
#
# Prints a TSV: id, verdict (holds, fails, not measured here), left, op, right, claim, where, command, the profile that it takes, and
# the two measures of the rule.
BEGIN { FS = OFS = "\t" }
function locate(file) {
    if (file ~ /^published\//) return published substr(file, 10)
    return results "/" file
}
function aggregate(kind, value, count,   i, total, best, falls) {
    if (kind == "count") return count
    if (kind == "sum" || kind == "mean") {
        for (i = 1; i <= count; i++) total += value[i]
        return kind == "sum" ? total : total / count
    }
    if (kind == "falls") {
        falls = 1
        for (i = 2; i <= count; i++) if (value[i] >= value[i - 1]) falls = 0
        return falls
    }
    asort(value)
    if (kind == "min") return value[1]
    if (kind == "max") return value[count]
    if (kind == "median") return count % 2 ? value[(count + 1) / 2] : (value[count / 2] + value[count / 2 + 1]) / 2
    print "audit.awk: unknown aggregate '" kind "'" > "/dev/stderr"; exit failed = 1
}
# The value of a measure, or "" where it was not measured.
function measure(text,   word, words, head, factor, kind, column, file, line, name, cell, cells, i, pair, key, keys, match_all, value, count) {
    gsub(/^[ \t]+|[ \t]+$/, "", text)
    if (text ~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/) return text + 0
    words = split(text, word, / +/)
    factor = 1
    if (split(word[1], head, "*") == 2) { factor = head[1] + 0; word[1] = head[2] }
    split(word[1], head, ":"); kind = head[1]; column = head[2]
    file = locate(word[2])
    if ((getline line < file) <= 0) { close(file); return "" }
    cells = split(line, cell, "\t")
    for (i = 1; i <= cells; i++) name[cell[i]] = i
    for (i = 3; i <= words; i++) {
        split(word[i], pair, "="); key[i] = substr(word[i], length(pair[1]) + 2)
        if (!(pair[1] in name)) { print "audit.awk: " file ": no column '" pair[1] "'" > "/dev/stderr"; exit failed = 1 }
        keys[i] = name[pair[1]]
    }
    if (!(column in name)) { print "audit.awk: " file ": no column '" column "'" > "/dev/stderr"; exit failed = 1 }
    while ((getline line < file) > 0) {
        split(line, cell, "\t"); match_all = 1
        for (i = 3; i <= words; i++)
            if (cell[keys[i]] != key[i] && (cell[keys[i]] !~ /^[-+0-9.e]+$/ || cell[keys[i]] + 0 != key[i])) match_all = 0
        if (match_all && cell[name[column]] ~ /[0-9]/) value[++count] = cell[name[column]] + 0
    }
    close(file)
    return count ? factor * aggregate(kind, value, count) : ""
}
function compare(a, op, b) {
    if (op == "<") return a < b
    if (op == "<=") return a <= b
    if (op == ">") return a > b
    if (op == ">=") return a >= b
    if (op == "=") return a == b
    print "audit.awk: unknown comparison '" op "'" > "/dev/stderr"; exit failed = 1
}
FNR == 1 {
    for (i = 1; i <= NF; i++) field[$i] = i
    print "id", "verdict", "left", "op", "right", "claim", "where", "command", "profile", "left_rule", "right_rule"
    next
}
/^#/ || NF == 0 { next }
{
    left = measure($field["left"]); right = measure($field["right"]); op = $field["op"]
    if (left == "" || right == "") verdict = "not measured here"
    else verdict = compare(left, op, right) ? "holds" : "fails"
    print $field["id"], verdict, left == "" ? "-" : sprintf("%.4g", left), op, \
        right == "" ? "-" : sprintf("%.4g", right), $field["claim"], $field["where"], $field["command"], \
        $field["profile"], $field["left"], $field["right"]
}
END { exit failed }
