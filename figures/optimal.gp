# Figure "optimal": error of the softmax matrix against how many numbers stand for it; the gap to the oracle head by head, by entropy.
width = 1200; height = 560
load 'figures/style.gp'
mean = results.'/optimal-mean.tsv'
table = results.'/optimal.tsv'
budget = system(sprintf("awk -F'\t' '$3 == 4 {f = 1} END {print f ? 4 : 1}' '%s'", mean))
series(a, c) = where2(mean, 1, a, 2, c)
heads(a) = sprintf("< awk -F'\t' '$5 == \"%s\" && $6 == \"mu\" && $7 == \"%s\"' '%s'", a, budget, table)

set multiplot
set tmargin at screen 0.92; set bmargin at screen 0.15
set lmargin at screen 0.07; set rmargin at screen 0.40
set title "As many numbers, the best choice of each kind"
set xlabel "blocks of 32 × 32 refined a row, or as many numbers of another kind"
set ylabel "relative error of D^{−1}A, mean over heads" offset 1, 0
set logscale xy
set format x '%g'; set format y '10^{%T}'
set xrange [0.2:5]; set xtics (0.25, 0.5, 1, 2, 4); set yrange [*:3]
set key at screen 0.63, screen 0.92 top right Left reverse box linecolor rgb hair opaque notitle font small_font
plot series('row', 'mu') using 3:4 with linespoints pointtype 7 linewidth 3 linecolor rgb vermilion title "MRA-2, the paper's ranking", \
     series('spread', 'mu') using 3:4 with linespoints pointtype 5 linewidth 3 linecolor rgb orange title "MRA-2, ranking by spread", \
     series('oracle', 'mu') using 3:4 with linespoints pointtype 9 linewidth 3 dashtype 2 linecolor rgb black title "MRA-2, oracle", \
     series('oracle', 'best') using 3:4 with linespoints pointtype 8 linewidth 2 dashtype 2 linecolor rgb pale title "oracle, best constants", \
     series('tree', 'mu') using 3:4 with linespoints pointtype 11 linewidth 3 linecolor rgb blue title "optimal tree", \
     series('tree', 'best') using 3:4 with linespoints pointtype 10 linewidth 2 linecolor rgb sky title "optimal tree, best constants", \
     series('haar', '-') using 3:4 with linespoints pointtype 13 linewidth 2 linecolor rgb green title "Haar", \
     series('sparse', '-') using 3:4 with linespoints pointtype 3 linewidth 2 linecolor rgb purple title "largest entries", \
     series('rank', '-') using 3:4 with linespoints pointtype 2 linewidth 2 linecolor rgb '#8c510a' title "best rank"
unset label 99

set lmargin at screen 0.72; set rmargin at screen 0.985
set title sprintf("Head by head, %s blocks a row", budget)
set xlabel "entropy of the attention, nats"; set ylabel "relative error of D^{−1}A"
unset logscale x
set format x '%g'
set xrange [*:*]; set yrange [*:*]; set xtics autofreq
set key bottom left inside font small_font
plot heads('row') using 4:9 with points pointtype 7 pointsize 1.3 linecolor rgb vermilion title "paper's ranking", \
     heads('spread') using 4:9 with points pointtype 5 pointsize 1.1 linecolor rgb orange title "by spread", \
     heads('oracle') using 4:9 with points pointtype 9 pointsize 1.1 linecolor rgb black title "oracle", \
     heads('tree') using 4:9 with points pointtype 11 pointsize 1.1 linecolor rgb blue title "optimal tree"
unset multiplot
