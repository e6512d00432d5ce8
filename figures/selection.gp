# Figure "selection": trained heads and their J for three scales; the share of the error removed by four orders.
width = 1200; height = 700
load 'figures/style.gp'
table = results.'/selection-mean.tsv'
heads = results.'/selection-pictures.tsv'
panels = rows(heads) > 3 ? 3 : rows(heads)
n = side_of(results.'/selection-a0.npy')
left(p) = 0.045 + 0.185 * p
orders = "oracle row plain random"
names = "oracle row−normalised plain random"
set style line 1 linewidth 3 dashtype 2 linecolor rgb black
set style line 2 linewidth 3 linecolor rgb vermilion
set style line 3 linewidth 3 linecolor rgb blue
set style line 4 linewidth 3 dashtype 3 linecolor rgb pale

set multiplot
unset grid; unset tics; unset border; unset colorbox
set xrange [-0.5:n - 0.5]; set yrange [-0.5:n - 0.5]
set label 1 "D^{−1}A, log_{10}" at screen 0.022, screen 0.70 rotate by 90 center textcolor rgb ink
set label 2 "J: boxes of side 16, 4, 1" at screen 0.022, screen 0.30 rotate by 90 center textcolor rgb ink
do for [p=0:panels - 1] {
    map = results.sprintf('/selection-a%d.npy', p)
    set lmargin at screen left(p); set rmargin at screen left(p) + 0.17
    set tmargin at screen 0.86; set bmargin at screen 0.55
    set cbrange [-5:0]
    set title cell(heads, 'set', p + 1).', head '.cell(heads, 'head', p + 1) \
        .sprintf("\nentropy %.2f nats", real(cell(heads, 'entropy', p + 1)))
    if (p == panels - 1) {
        set colorbox user horizontal origin screen 0.2, screen 0.515 size screen 0.25, screen 0.015
        set cbtics 2 nomirror scale 0.4 offset 0, 0.5 font ',11'
    }
    plot map binary array=(n,n) skip=npy_header format="%float32" flipy with image
    unset label 99; unset label 1; unset label 2; unset colorbox
    map = results.sprintf('/selection-j%d.npy', p)
    set tmargin at screen 0.45; set bmargin at screen 0.14
    set cbrange [0:2]
    set title sprintf("error of Z: %.3f", real(cell(heads, 'relative_error', p + 1))) offset 0, -0.6
    set palette defined (0 '#dfe8f2', 1 '#56b4e9', 2 '#003f6b')
    plot map binary array=(n,n) skip=npy_header format="%float32" flipy with image
    set palette defined @viridis
    set title offset 0, 0
}

set lmargin at screen 0.68; set rmargin at screen 0.985
set border 3; set xtics auto; set ytics auto; set grid
set logscale x 2; set xrange [0.125:16]; set yrange [0:1]
set format x "%g"
set ylabel "share of the squared error removed" offset 1, 0
unset key
set tmargin at screen 0.94; set bmargin at screen 0.62
set title "entries of A (large rows dominate)" offset 0, -0.5
plot for [i=1:4] where2(table, 1, 'matrix', 2, word(orders, i)) using 3:4 with lines linestyle i
set key top left Left reverse samplen 2 spacing 1.0
set tmargin at screen 0.50; set bmargin at screen 0.19
set title "entries of D^{−1}A (rows weigh the same)" offset 0, -0.5
set xlabel "blocks of 32 × 32 refined, per row of blocks"
plot for [i=1:4] where2(table, 1, 'softmax', 2, word(orders, i)) using 3:4 with lines linestyle i title word(names, i)
unset multiplot
