# runs.awk: what the run records of a profile say, as Markdown. Input: *.run.json as src/core/record.c writes them.
#
# mode=headline: one sentence with machine, commit, profile. mode=table: a row a run.
function value(line) {
    sub(/^[^:]*:[ ]*/, "", line); sub(/,[ ]*$/, "", line); gsub(/^"|"$/, "", line)
    return line
}
FNR == 1 { name = FILENAME; sub(/.*\//, "", name); sub(/\.run\.json$/, "", name); names[++count] = name }
match($0, /^ *"(commit|started|wall_seconds|peak_memory_bytes|processor|cores|threads|device|compiler)":/) {
    key = $0; sub(/^ *"/, "", key); sub(/".*/, "", key)
    record[name, key] = value($0)
}
END {
    if (mode == "headline") {
        processor = record[names[1], "processor"]
        print "\nThis page was made by `make reproduce PROFILE=" profile "` on " record[names[1], "cores"] " cores (" processor \
            "), at commit `" record[names[1], "commit"] "`. What it shows is measured here unless it is labelled as published or recorded.\n"
        exit
    }
    print "\n# The runs behind this page {#sec-runs}\n"
    print "| run | commit | started (UTC) | seconds | peak memory, MiB |"
    print "|---|---|---|---:|---:|"
    for (i = 1; i <= count; i++)
        printf "| %s | `%s` | %s | %.1f | %.0f |\n", names[i], record[names[i], "commit"], record[names[i], "started"], \
            record[names[i], "wall_seconds"], record[names[i], "peak_memory_bytes"] / 1048576
    print ""
}
