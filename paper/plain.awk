# plain.awk: a table in Markdown, as expand.awk makes it, for a terminal: its caption above, columns as wide as their cells.
/^\|---/ || /^$/ { next }
/^\|/ {
    count = split($0, cell, / *\| */)
    rows++
    for (i = 2; i < count; i++) { body[rows, i] = cell[i]; if (length(cell[i]) > width[i]) width[i] = length(cell[i]) }
    columns = count
    next
}
/^Table: / {
    print "\n" substr($0, 8)
    for (r = 1; r <= rows; r++) {
        line = " "
        for (i = 2; i < columns; i++) line = line sprintf(" %-" width[i] "s ", body[r, i])
        sub(/ +$/, "", line); print line
    }
    next
}
{ print }
