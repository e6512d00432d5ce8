# Figure "entropy": above, MRA-2's error against the entropy of attention at two budgets, ours and the published curve;
# below, every method of the comparison at one budget.
width = 1200; height = 1130
load 'figures/style.gp'
heads = results.'/entropy.tsv'
bins = results.'/entropy-bins.tsv'
theirs = 'paper/published/entropy.tsv'
budgets = system(sprintf("awk -F'\t' 'NR > 1 && !seen[$1]++ {print $1}' '%s'", bins))
panels = words(budgets) > 2 ? 2 : words(budgets)
half = 0.5 * (rows(bins) > 0 ? real(system(sprintf("awk -F'\t' 'NR > 1 {for (b in seen) {d = $2 - b; if (d < 0) d = -d; if (d > 0 && (!w || d < w)) w = d}; seen[$2]} END {print w ? w : 0.5}' '%s'", bins))) : 0.5)
tokens = 512

set multiplot
top = 1.8
set xrange [0:6.5]; set yrange [0:top]
# Heads that lie above the axis.
above(b) = int(system(sprintf("awk -F'\t' 'NR > 1 && $5 == %s && $8 > %g {n++} END {print n + 0}' '%s'", b, top, heads)))
set xlabel "entropy of attention (nats, mean over rows; at most log n)"
do for [p=1:panels] {
    b = word(budgets, p)
    set tmargin at screen 0.955; set bmargin at screen 0.575
    set lmargin at screen 0.075 + 0.49 * (p - 1); set rmargin at screen 0.495 + 0.49 * (p - 1)
    set title sprintf("%s block%s of 32 × 32 per row of blocks%s", b, b eq '1' ? '' : 's', \
        above(b) ? sprintf(" (above: %d heads)", above(b)) : '')
    if (p == 1) { set ylabel "relative error of Z"; set key top right Left reverse box linecolor rgb hair opaque }
    plot where(heads, 5, b) using 6:8 with points pointtype 7 pointsize 0.5 linecolor rgb '#f3c9ae' title "one head at one scale t", \
         where(bins, 1, b) using ($2 + half):3 smooth unique with linespoints linewidth 3 pointtype 7 linecolor rgb vermilion title "mean, heads trained here", \
         sprintf("< awk -F'\t' '$1 == %d && $2 == \"mra-2\" && $4 == %s' '%s'", tokens, b, theirs) using ($6 + 0.125):7 \
             with linespoints linewidth 2 dashtype 2 pointtype 6 linecolor rgb blue title "published (RoBERTa-base)"
    unset label 99; unset ylabel; set key off
}
methods = results.'/entropy-methods-bins.tsv'
# Those of a list that the table has.
present(list) = system(sprintf("awk -F'\t' -v list='%s' 'NR > 1 {seen[$1]} END {k = split(list, m, \" \"); for (i = 1; i <= k; i++) if (m[i] in seen) print m[i]}' '%s'", list, methods))
group(p) = p == 1 ? 'mra2 mra2s longformer bigbird reformer htransformer1d scatterbrain' : \
    'mra2 performer linformer nystromformer soft yoso'
title_of(p) = p == 1 ? 'boxes, windows and buckets' : 'features, landmarks, hashes (* learns: as it begins)'
# Methods whose error lies above the axis in every bin.
above(list) = system(sprintf("awk -F'\t' -v list='%s' 'NR > 1 {if (!($1 in low) || $4 < low[$1]) low[$1] = $4} END {k = split(list, m, \" \"); for (i = 1; i <= k; i++) if (low[m[i]] > 1.45) print m[i]}' '%s'", list, methods))
options_of(m) = system(sprintf("awk -F'\t' '$1 == \"%s\" {print $2; exit}' '%s'", m, methods))
do for [p=1:2] {
    set tmargin at screen 0.475; set bmargin at screen 0.085
    set lmargin at screen 0.075 + 0.49 * (p - 1); set rmargin at screen 0.495 + 0.49 * (p - 1)
    set title title_of(p).(above(group(p)) eq '' ? '' : ', above: '.method_name(word(above(group(p)), 1)).' *')
    if (p == 1) { set ylabel "relative error of Z" } else { unset ylabel }
    set yrange [0:top]
    set key top left Left reverse nobox maxrows 4 samplen 1 width -6 font small_font
    plot for [m in present(group(p))] where(methods, 1, m) using ($3 + half):4 smooth unique \
        with linespoints linewidth (m[1:3] eq 'mra' ? 3 : 1.8) pointtype method_point(m) linecolor rgb method_colour(m) \
        title method_name(m).(method_learns(m) ? ' *' : '').(options_of(m) eq '-' ? '' : ', '.option_text(options_of(m))) noenhanced
    unset label 99
}
unset multiplot
