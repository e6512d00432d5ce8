# Figure "certificate": certified against true errors head by head; how often a certificate is trivial; the budget that a tolerance takes.
width = 1200; height = 520
load 'figures/style.gp'
table = results.'/certificate.tsv'
trivial = results.'/certificate-trivial.tsv'
within = results.'/certificate-blocks.tsv'
colours = '#440154 #3b528b #21918c #5ec962 #e0c000 #d55e00 #999999 #555555'
budget = system(sprintf("awk -F'\t' '$2 == 4 {f = 1} END {print f ? 4 : 1}' '%s'", trivial))
# The scales of the logits at which anything is certain.
scales = system(sprintf("awk -F'\t' 'NR > 1 && $5 == %s && $8 != \"inf\" && !seen[$4]++ {print $4}' '%s'", budget, table))

set multiplot
set tmargin at screen 0.90; set bmargin at screen 0.16
set lmargin at screen 0.08; set rmargin at screen 0.53
set title sprintf("Relative error of Z with %s blocks a row", budget)
set xlabel "true"; set ylabel "certified" offset 1, 0
set logscale xy
set format xy '10^{%T}'
set xrange [1e-6:3]; set yrange [1e-6:1e3]
# Few bounds are a thousand times and more above a small error; where one is, it shows through.
set key top left Left reverse box linecolor rgb hair noopaque title "logits times t"
power(t) = floor(log(t) / log(2) + 0.5)
name_of(t) = 2**power(t) == t ? (t == 1 ? "1" : sprintf("2^{%d}", power(t))) : sprintf("%g", t)
# Where nothing is certain the point lies on the upper edge.
at(t) = sprintf("< awk -F'\t' -v OFS='\t' '$4 == \"%s\" && $5 == \"%s\" {if ($8 == \"inf\" || $8 > 1000) $8 = 1000; print}' '%s'", t, budget, table)
plot x with lines linewidth 1.5 linecolor rgb ink title "true = certified", \
     for [i=1:words(scales)] at(word(scales, i)) using 7:8 with points pointtype 7 pointsize 0.8 \
         linecolor rgb word(colours, i) title name_of(real(word(scales, i)))
unset label 99

set lmargin at screen 0.63; set rmargin at screen 0.985
set title "Where certificates say something"
set xlabel "t"; set ylabel "share"
unset logscale y; set logscale x
set xrange [*:*]; set yrange [0:1.25]
set format y '%g'
set key top left Left reverse box linecolor rgb hair opaque notitle
share(b) = sprintf("< awk -F'\t' '$2 == \"%s\"' '%s'", b, trivial)
plot share(budget) using 1:3 with linespoints pointtype 7 linewidth 3 linecolor rgb vermilion \
         title sprintf("rows with a trivial bound, %s blocks", budget), \
     within using 1:($2 / 16) with linespoints pointtype 5 linewidth 3 linecolor rgb blue \
         title "boxes refined for a certain error of 1 %"
unset multiplot
