# Figure "entropy": MRA-2's error against the entropy of attention at two budgets, ours and the published curve.
width = 1200; height = 600
load 'figures/style.gp'
heads = results.'/entropy.tsv'
bins = results.'/entropy-bins.tsv'
theirs = 'paper/published/entropy.tsv'
budgets = system(sprintf("awk -F'\t' 'NR > 1 && !seen[$1]++ {print $1}' '%s'", bins))
panels = words(budgets) > 2 ? 2 : words(budgets)
half = 0.5 * (rows(bins) > 0 ? real(system(sprintf("awk -F'\t' 'NR > 1 {for (b in seen) {d = $2 - b; if (d < 0) d = -d; if (d > 0 && (!w || d < w)) w = d}; seen[$2]} END {print w ? w : 0.5}' '%s'", bins))) : 0.5)
tokens = 512

set multiplot
set xrange [0:6.5]; set yrange [0:1]
set xlabel "entropy of attention (nats, mean over rows; at most log n)"
do for [p=1:panels] {
    b = word(budgets, p)
    set tmargin at screen 0.91; set bmargin at screen 0.15
    set lmargin at screen 0.075 + 0.49 * (p - 1); set rmargin at screen 0.495 + 0.49 * (p - 1)
    set title sprintf("%s block%s of 32 × 32 per row of blocks", b, b eq '1' ? '' : 's')
    if (p == 1) { set ylabel "relative error of Z"; set key top right Left reverse box linecolor rgb hair opaque }
    plot where(heads, 5, b) using 6:8 with points pointtype 7 pointsize 0.5 linecolor rgb '#f3c9ae' title "one head at one scale t", \
         where(bins, 1, b) using ($2 + half):3 smooth unique with linespoints linewidth 3 pointtype 7 linecolor rgb vermilion title "mean, heads trained here", \
         sprintf("< awk -F'\t' '$1 == %d && $2 == \"mra-2\" && $4 == %s' '%s'", tokens, b, theirs) using ($6 + 0.125):7 \
             with linespoints linewidth 2 dashtype 2 pointtype 6 linecolor rgb blue title "published (RoBERTa-base)"
    unset label 99; unset ylabel; set key off
}
unset multiplot
