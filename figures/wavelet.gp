# Figure "wavelet": left, the functions of the two families on 4 x 4 matrices; right, how well m terms do on trained heads.
width = 1200; height = 680
load 'figures/style.gp'
table = results.'/wavelet-mean.tsv'
side = 21 # cells across a mosaic: 4 functions of 4, and gaps
basis = picture(results.'/wavelet-basis.npy', side)
frame4 = picture(results.'/wavelet-frame4.npy', 6)
frame2 = picture(results.'/wavelet-frame2.npy', 11)
frame1 = picture(results.'/wavelet-frame1.npy', side)

set multiplot
unset colorbox; unset grid; unset tics; unset border
set palette defined (-1 '#0072b2', 0 '#ececec', 1 '#d55e00')
set xrange [-0.5:side - 0.5]; set yrange [-0.5:side - 0.5]; set cbrange [-0.5:0.5]

set title "2-D Haar basis: 16 signed functions"
set lmargin at screen 0.03; set rmargin at screen 0.31; set tmargin at screen 0.93; set bmargin at screen 0.39
plot @basis with image pixels
unset label 99
set cbrange [-1:1]
set tmargin at screen 0.28; set bmargin at screen 0.09
set title "boxes: scale 4"; set xrange [-0.5:5.5]; set yrange [-0.5:5.5]
set lmargin at screen 0.01; set rmargin at screen 0.11
plot @frame4 with image pixels
set title "scale 2"; set xrange [-0.5:10.5]; set yrange [-0.5:10.5]
set lmargin at screen 0.12; set rmargin at screen 0.22
plot @frame2 with image pixels
set title "scale 1"; set xrange [-0.5:side - 0.5]; set yrange [-0.5:side - 0.5]
set lmargin at screen 0.23; set rmargin at screen 0.33
plot @frame1 with image pixels

set lmargin at screen 0.42; set rmargin at screen 0.98; set tmargin at screen 0.93; set bmargin at screen 0.35
set border 3; set xtics; set ytics; set grid
set logscale xy
set format x '10^{%T}'; set format y '10^{%T}'
set title "How few numbers describe a trained head's A = exp(P)?"
set xlabel "numbers kept, as a share of n^2"
set ylabel "||A − A_m|| / ||A||   (mean over heads)"
set xrange [1e-5:1]; set yrange [1e-4:1.05]
set key at screen 0.42, screen 0.23 top left Left reverse
series(name) = sprintf("< awk -F'\t' '$1 == \"%s\"' '%s'", name, table)
plot series('haar') using 3:4 with lines linewidth 3 linecolor rgb blue title "Haar, m largest coefficients", \
     series('frame-mean') using 3:4 with lines linewidth 3 linecolor rgb green title "boxes, true means µ*, largest error split first", \
     series('frame-exp') using 3:4 with lines linewidth 3 linecolor rgb vermilion title "boxes, µ = exp(mean), largest µ split first", \
     series('sparse') using 3:4 with lines linewidth 3 dashtype 2 linecolor rgb black title "m largest entries (best sparse)", \
     series('rank') using 3:4 with linespoints linewidth 2 pointtype 7 linecolor rgb purple title "best rank k, m = 2nk (best low rank; goes on below)"
unset multiplot
