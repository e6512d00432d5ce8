# Figure "coefficient": mu against mu* box by box, and the gap against the range of the box with its two bounds.
width = 1200; height = 600
load 'figures/style.gp'
table = results.'/coefficient.tsv'
scales = system(sprintf("awk -F'\t' 'NR > 1 {print $1}' '%s/coefficient-bounds.tsv'", results))
colours = '#440154 #3b528b #21918c #5ec962 #e0c000 #999999 #555555'
# At most a few thousand points are drawn; the table has all.
step = rows(table) / 2500 + 1
boxes(s) = sprintf("< awk -F'\t' '$4 == %s && ++seen %% %d == 0' '%s'", s, step, table)
nats = 1 / log(10)

set multiplot
set tmargin at screen 0.91; set bmargin at screen 0.14
set lmargin at screen 0.08; set rmargin at screen 0.47
set title "One inner product instead of s²"
set xlabel "log_{10} µ* (mean of exp P over the box)"
set ylabel "log_{10} µ (exp of the mean)"
set key top left Left reverse box linecolor rgb hair opaque title "box side s"
plot for [i=1:words(scales)] boxes(word(scales, i)) using ($9 * nats):($8 * nats) with points pointtype 7 pointsize 0.35 \
         linecolor rgb word(colours, i) notitle, \
     for [i=1:words(scales)] NaN with points pointtype 7 pointsize 1 linecolor rgb word(colours, i) title word(scales, i), \
     x with lines linewidth 1.5 linecolor rgb ink title "µ = µ*"
unset label 99

set lmargin at screen 0.57; set rmargin at screen 0.985
set title "The gap, and what the range r of P in the box allows"
set xlabel "range r = max P − min P over the box"
set ylabel "µ*/µ − 1"
set logscale xy
set format y '10^{%T}'
# Up to the power of ten above the largest gap.
highest = real(system(sprintf("awk -F'\t' 'NR > 1 && $10 > most {most = $10} END {print (most > 1 ? most : 1)}' '%s'", table)))
set xrange [0.1:*]; set yrange [1e-4:10**ceil(log10(highest))]
set samples 400
set key top left Left reverse box linecolor rgb hair opaque notitle
# Specht's ratio less one; its series r^2/8 where the formula would cancel.
specht(r) = r < 0.02 ? r * r / 8 : (exp(r) - 1) * exp(r / (exp(r) - 1)) / (exp(1) * r) - 1
paper(r) = (exp(r / 2) - 1) ** 2
plot paper(x) with lines linewidth 3 dashtype 2 linecolor rgb vermilion title "the paper's bound C_r", \
     specht(x) with lines linewidth 3 linecolor rgb black title "sharp bound S(e^r) − 1", \
     for [i=1:words(scales)] boxes(word(scales, i)) using 7:10 with points pointtype 7 pointsize 0.35 \
         linecolor rgb word(colours, i) notitle
unset multiplot
