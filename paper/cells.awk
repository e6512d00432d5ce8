# cells.awk: what the trainings of the tables reached, as tables.
#
# usage: gawk -v profile=NAME -v out=DIR -f paper/cells.awk [RESULT...]
#
# RESULT: files
# .../PROFILE/TABLE/TASK/METHOD/seed-N/result.tsv, with run.json beside them; those under experiments/recorded/MACHINE are called
# recorded, a run of this machine counts before a recorded one of the same profile, cell and seed.
#
# Writes in DIR: cells.tsv, a row a run, all profiles; lra.tsv, a row a cell of PROFILE; lra-mean.tsv, the mean over the five tasks of the
# methods that have them all; lra-reduced.tsv and lra-paper.tsv, method by task. What was not run is said to be; so is the published accuracy,
# which the published files do not have: paper/published/lra_results.tsv (method, task, accuracy, page), if someone copies it
# from the paper, is shown in its place.
BEGIN {
    FS = OFS = "\t"
    tasks = split("listops text retrieval image pathfinder32", task, " ")
    methods = split("exact mra2 mra2s linformer performer nystromformer nystromformer-conv soft soft-conv yoso yoso-conv reformer " \
                    "longformer bigbird scatterbrain htransformer1d", method, " ")
    while ((getline line < "paper/published/lra_results.tsv") > 0) { split(line, cell, "\t"); published[cell[1], cell[2]] = cell[3] " (p. " cell[4] ")" }
}
function fail(text) { print "cells.awk: " text > "/dev/stderr"; exit failed = 2 }
# Of the run record: a number or text by its key.
function recorded(file, key,   line, value) {
    while ((getline line < file) > 0)
        if (line ~ "^ *\"" key "\":") { value = line; sub(/^[^:]*: *"?/, "", value); sub(/"?,?$/, "", value); break }
    close(file)
    return value
}
FNR == 1 {
    delete column
    for (i = 1; i <= NF; i++) column[$i] = i
    count = split(FILENAME, part, "/")
    if (count < 6 || part[count] != "result.tsv") fail(FILENAME ": expected PROFILE/TABLE/TASK/METHOD/seed-N/result.tsv")
    run = part[count - 5] SUBSEP part[count - 4] SUBSEP part[count - 3] SUBSEP part[count - 2] SUBSEP substr(part[count - 1], 6)
    where = "this machine"
    for (i = 1; i < count; i++) if (part[i] == "recorded") where = "recorded: " part[i + 1]
    # Live files come first.
    if (run in seen) nextfile
    seen[run] = where; order[++runs] = run
    record = FILENAME; sub(/result\.tsv$/, "run.json", record)
    commit[run] = recorded(record, "commit"); started[run] = substr(recorded(record, "started"), 1, 10)
    next
}
{ split_of = $column["split"]; for (name in column) value[run, split_of, name] = $column[name] }
# A cell's runs with one profile: their number, mean and deviation of the accuracy, and sums.
function summarise(p, table, t, m,   i, key, seeds, x, total, square) {
    delete sum
    for (i = 1; i <= runs; i++) {
        split(order[i], key, SUBSEP)
        if (key[1] != p || key[2] != table || key[3] != t || key[4] != m) continue
        x = value[order[i], "test", "accuracy"]; total += x; square += x * x; seeds++
        sum["hours"] += value[order[i], "test", "seconds"] / 3600; sum["majority"] = value[order[i], "test", "majority"]
        sum["steps"] = value[order[i], "test", "steps"]; sum["where"] = seen[order[i]]; sum["examples"] = value[order[i], "test", "examples"]
    }
    sum["seeds"] = seeds
    if (seeds) sum["mean"] = total / seeds
    if (seeds > 1) sum["deviation"] = sqrt(square > total * total / seeds ? (square - total * total / seeds) / (seeds - 1) : 0)
    return seeds
}
function publicly(m, t) { return (m, t) in published ? published[m, t] : "not transcribed" }
function write_runs(   i, key, file) {
    file = out "/cells.tsv"
    print "profile", "table", "task", "method", "seed", "accuracy", "most_frequent", "dev_accuracy", "examples", "steps", "best_step", "weights", "hours", "where", "commit", "started" > file
    for (i = 1; i <= runs; i++) {
        split(order[i], key, SUBSEP)
        print key[1], key[2], key[3], key[4], key[5], value[order[i], "test", "accuracy"], value[order[i], "test", "majority"],
            value[order[i], "dev", "accuracy"], value[order[i], "test", "examples"], value[order[i], "test", "steps"], value[order[i], "test", "step"],
            value[order[i], "test", "weights"], sprintf("%.4f", value[order[i], "test", "seconds"] / 3600), seen[order[i]], commit[order[i]], started[order[i]] > file
    }
    close(file)
}
function write_cells(   t, m, file) {
    file = out "/lra.tsv"
    print "task", "method", "accuracy", "deviation", "seeds", "most_frequent", "published", "profile", "steps", "hours", "where" > file
    for (t = 1; t <= tasks; t++)
        for (m = 1; m <= methods; m++)
            if (summarise(profile, "lra", task[t], method[m]))
                print task[t], method[m], sprintf("%.4f", sum["mean"]), "deviation" in sum ? sprintf("%.4f", sum["deviation"]) : "-", sum["seeds"],
                    sum["majority"], publicly(method[m], task[t]), profile, sum["steps"], sprintf("%.3f", sum["hours"]), sum["where"] > file
    close(file)
}
function write_means(   t, m, file, total, done) {
    file = out "/lra-mean.tsv"
    print "method", "accuracy" > file
    for (m = 1; m <= methods; m++) {
        total = done = 0
        for (t = 1; t <= tasks; t++) if (summarise(profile, "lra", task[t], method[m])) { total += sum["mean"]; done++ }
        if (done == tasks) print method[m], sprintf("%.4f", total / tasks) > file
    }
    close(file)
}
# Method by task, the accuracy of the most frequent answer first.
function write_matrix(p,   t, m, file, row, total, done, head, frequent) {
    file = out "/lra-" p ".tsv"
    head = "method"; frequent = "*most frequent answer*"
    for (t = 1; t <= tasks; t++) {
        head = head OFS task[t]; done = ""
        for (m = 1; m <= methods; m++) if (summarise(p, "lra", task[t], method[m])) done = sprintf("%.3f", sum["majority"])
        frequent = frequent OFS (done == "" ? "-" : done)
    }
    print head, "mean", "published" > file
    print frequent, "-", "-" > file
    for (m = 1; m <= methods; m++) {
        row = method[m]; total = done = 0
        for (t = 1; t <= tasks; t++) {
            if (!summarise(p, "lra", task[t], method[m])) { row = row OFS "not run"; continue }
            total += sum["mean"]; done++
            row = row OFS sprintf("%.3f", sum["mean"]) ("deviation" in sum ? sprintf(" ± %.3f", sum["deviation"]) : "")
        }
        print row, done == tasks ? sprintf("%.3f", total / tasks) : "-", publicly(method[m], "mean") > file
    }
    close(file)
}
END {
    if (failed) exit failed
    write_runs(); write_cells(); write_means(); write_matrix("reduced"); write_matrix("paper")
}
