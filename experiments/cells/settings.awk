# settings.awk: writes the settings file of every cell of a table, from the published tables and what a profile changes in them.
#
# usage: gawk -v profile=NAME -v out=FOLDER -f settings.awk profiles.tsv lra_tasks.tsv lra_methods.tsv
#
# A cell is one method on one task of a table: FOLDER/TABLE/TASK/METHOD.ini. Each file says in comments which rows of which tables
# it was made from and what the profile changed. Prints a row for each file: table, task, method, file.
BEGIN {
    FS = OFS = "\t"
    # The published names of parameters, and what the methods here call them; `*` marks the ones that count tokens.
    split("block_size:*block random_block:random linformer_k:*k window_size:*window num_landmarks:*landmarks " \
          "conv_kernel_size:conv conv_window:conv rp_dim:*features num_hash:hashes num_hash_f:hashes hashcode_len:bits " \
          "block_per_row:*blocks initial_prior_first_n_blocks:first initial_prior_diagonal_n_blocks:diagonal " \
          "input_shape:grid first_token_view:global", pairs, " ")
    for (i in pairs) { split(pairs[i], pair, ":"); name_of[pair[1]] = pair[2] }
    split("linformer performer nystromformer nystromformer-conv soft soft-conv yoso yoso-conv reformer bigbird scatterbrain " \
          "htransformer1d", names, " ")
    for (i in names) varies[names[i]] = 1
}
function fail(text) { print "settings.awk: " text > "/dev/stderr"; exit failed = 2 }
function power_of_two(n,   p) { for (p = 1; p < n; p *= 2) { } return p }
# The settings of the file being made: kept in order, replaced where they are set again.
function set(key, value) { if (!(key in setting)) order[++settings] = key; setting[key] = value }
function forget() { delete setting; delete order; settings = 0; changed = note = "" }

# ---- Reading ----
/^#/ || NF == 0 { next }
{ file = FILENAME; sub(/.*\//, "", file) }
FNR == 1 || $1 == "profile" { delete column; for (i = 1; i <= NF; i++) column[$i] = i; next }
file == "profiles.tsv" {
    if ($1 == profile) { rule_table[++rules] = $2; rule_task[rules] = $3; rule_key[rules] = $4; rule_value[rules] = $5 }
    next
}
file == "lra_tasks.tsv" { for (key in column) task[$1, key] = $column[key]; next }
file == "lra_methods.tsv" { lra_cell($1, $2, $3, $4); next }
{ fail(FILENAME ": unknown table") }

# ---- Methods ----
# What a published method is called here: mra2 with approx_mode=sparse is mra2s, a convolution makes it NAME-conv.
function method_name(published, config) {
    if (published == "transformer") return "exact"
    sub(/_attention$/, "", published)
    if (published == "mra2" && config ~ /-s(-|$)/) return "mra2s"
    return config ~ /-conv$/ ? published "-conv" : published
}
# The options of a method, from its published parameters; those that count tokens are scaled by `ratio`.
function set_options(method, parameters, ratio,   count, word, i, key, value, name) {
    set("attention.method", method)
    # Split at the blanks before a name, for a value such as [32, 32] has blanks.
    gsub(/, /, ",", parameters)
    count = split(parameters, word, " ")
    for (i = 1; i <= count; i++) {
        key = word[i]; sub(/=.*/, "", key); value = substr(word[i], length(key) + 2)
        if (value == "" || key == "attn_cpt" || key == "approx_mode" || (key == "conv_kernel_size" && value == 0)) continue
        if (!(key in name_of)) fail("unknown parameter '" key "' of " method)
        name = name_of[key]
        if (key == "input_shape") { gsub(/[][]/, "", value); sub(/,/, "x", value) }
        if (key == "first_token_view") value = value == "True" ? 1 : 0
        if (sub(/^\*/, "", name) && ratio != 1) { value = int(value * ratio + 0.5); if (value < 1) value = 1 }
        set("attention." name, value)
    }
    # Priors that would take more than half of a scaled budget are dropped: rows and columns take 2 first, the band diagonal.
    if (ratio != 1 && ("attention.first" in setting) && \
        setting["attention.blocks"] < 2 * (2 * setting["attention.first"] + setting["attention.diagonal"])) {
        set("attention.first", 0); set("attention.diagonal", 0); note = " The first and diagonal blocks are not preferred: they would take most of so small a budget."
    }
    # Two options that the published settings leave at a library's default.
    if (method == "reformer") set("attention.bucket", int(64 * ratio + 0.5))
    if ((method == "yoso" || method == "yoso-conv") && ratio != 1)
        set("attention.bits", int(setting["attention.bits"] + log(ratio) / log(2) + 0.5))
}

# ---- Profiles ----
function applies(i, table, name) { return rule_table[i] == table && (rule_task[i] == "*" || rule_task[i] == name) }
function rule(table, name, key, fallback,   i) {
    for (i = 1; i <= rules; i++) if (applies(i, table, name) && rule_key[i] == key) fallback = rule_value[i]
    return fallback
}
function wanted(table, name, method,   cells) {
    cells = rule(table, name, "cells", "-")
    return cells == "*" || index(" " cells " ", " " method " ")
}
function apply_rules(table, name,   i) {
    for (i = 1; i <= rules; i++) {
        if (!applies(i, table, name) || rule_key[i] !~ /\./) continue
        if (!index(changed " ", " " rule_key[i] " ") && !((rule_key[i] in setting) && setting[rule_key[i]] == rule_value[i])) changed = changed " " rule_key[i]
        set(rule_key[i], rule_value[i])
    }
}

# ---- The Long-Range Arena ----
function lra_cell(published, config, name, parameters,   method, n, length_, ratio, variant) {
    method = method_name(published, config)
    if (!wanted("lra", name, method)) return
    if (!((name, "train") in task)) fail("lra_methods.tsv: no task '" name "' in lra_tasks.tsv")
    forget()
    n = power_of_two(task[name, "max_seq_len"])
    length_ = rule("lra", name, "length", n)
    ratio = length_ / n
    lra_data(name)
    lra_model(name, n)
    set_options(method, parameters, ratio)
    variant = rule("lra", name, "variant", "")
    if ((method in varies) && variant != "") set("attention.variant", variant)
    # Published, MRA-2's budget counts the rows of padding too.
    if (method ~ /^mra2s?$/ && variant == "published") set("attention.rows", "all")
    lra_training(name)
    apply_rules("lra", name)
    if (ratio != 1) set("model.positions", length_)
    write_file("lra", name, method, "paper/published/lra_tasks.tsv, row " name "; paper/published/lra_methods.tsv, row " config " " name, ratio)
}
# Pictures: the sizes of the data set, as the published script reads it; the 45000 of the published row are not used there.
function lra_data(name) {
    set("data.name", name)
    if (name == "listops") { set("data.train", task[name, "train"]); set("data.dev", task[name, "dev"]); set("data.test", task[name, "test"]) }
    if (name == "pathfinder32") { set("data.train", 160000); set("data.dev", 20000); set("data.test", 20000) }
    if (name == "image") set("data.held_out", task[name, "dev"])
    set("data.maximum_length", task[name, "max_seq_len"])
}
function lra_model(name, n) {
    set("model.dim", task[name, "dim"]); set("model.heads", task[name, "num_head"]); set("model.head_dim", task[name, "head_dim"])
    set("model.layers", task[name, "num_layers"]); set("model.hidden", task[name, "hidden_dim"])
    set("model.dropout", task[name, "dropout"]); set("model.positions", n)
    set("model.pooling", task[name, "pooling"] == "MEAN" ? "all" : fail("pooling " task[name, "pooling"]))
}
function lra_training(name) {
    set("train.steps", task[name, "train_steps"]); set("train.batch", task[name, "batch_size"]); set("train.batching", "padded")
    set("train.learning_rate", task[name, "learning_rate"]); set("train.warmup", task[name, "warmup_steps"])
    set("train.anneal", task[name, "lr_decay"]); set("train.weight_decay", task[name, "weight_decay"])
    set("train.eval_every", task[name, "eval_every"]); set("train.dev_examples", task[name, "eval_steps"] * task[name, "batch_size"])
    set("train.test_examples", task[name, "test"])
}

# ---- Writing ----
# A comment of as many lines as it needs: a settings file refuses very long ones.
function comment(text, path,   count, word, i, line) {
    count = split(text, word, " ")
    line = "#"
    for (i = 1; i <= count; i++) {
        if (length(line) + 1 + length(word[i]) > 110) { print line > path; line = "#" }
        line = line " " word[i]
    }
    print line > path
}
function write_file(table, name, method, source, ratio,   path, temporary, count, i, s, section) {
    path = out "/" table "/" name "/" method ".ini"
    if (system("mkdir -p '" out "/" table "/" name "'") != 0) fail(out "/" table "/" name ": cannot be made")
    # The folder may hold the file of an earlier call: a temporary name, and replaced only where it differs.
    temporary = path ".new"
    comment(table ", " name ", " method ": profile " profile ".", temporary)
    comment("Made by experiments/cells/settings.awk from " source ".", temporary)
    if (changed != "") comment("The profile (experiments/cells/profiles.tsv) changed:" changed ".", temporary)
    if (ratio != 1) comment("Options that count tokens are " ratio " of the published ones, as the sequences are." note, temporary)
    if (setting["data.name"] == "same-film")
        comment("The pairs are not those of LRA: same-film stands in for retrieval, two reviews, of one film or of two?", temporary)
    count = split("data model attention train", section, " ")
    for (s = 1; s <= count; s++) {
        print "\n[" section[s] "]" > temporary
        for (i = 1; i <= settings; i++)
            if (index(order[i], section[s] ".") == 1) print substr(order[i], length(section[s]) + 2) " = " setting[order[i]] > temporary
    }
    close(temporary)
    if (system("cmp -s '" temporary "' '" path "' && rm '" temporary "' || mv '" temporary "' '" path "'") != 0) fail(path ": cannot be written")
    listed[method] = listed[method] table OFS name OFS method OFS path "\n"
}
# The plan in the order of the table: one method on all tasks, then the next.
END {
    if (failed) exit failed
    count = split("exact mra2 mra2s linformer performer nystromformer nystromformer-conv soft soft-conv yoso yoso-conv reformer " \
                  "longformer bigbird scatterbrain htransformer1d", name, " ")
    for (i = 1; i <= count; i++) printf "%s", listed[name[i]]
}
