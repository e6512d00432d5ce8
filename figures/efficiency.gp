# Figure "efficiency": error on trained heads against time (ours, measured here), one panel a length; and the published points on
# their own time axis (another machine: the panels' time axes cannot be compared).
width = 1200; height = 720
load 'figures/style.gp'
ours = results.'/efficiency.tsv'
theirs = 'paper/published/efficiency.tsv'
lengths = system(sprintf("awk -F'\t' 'NR > 1 && !seen[$1]++ {print $1}' '%s'", ours))
panels = words(lengths) > 2 ? 2 : words(lengths)
labels = "mra2 mra2s mra3 mra4"
names = "'MRA-2' 'MRA-2-s' 'R = 16, 4, 1' 'R = 64, 16, 4, 1'"
colours = "#d55e00 #e69f00 #0072b2 #009e73"
# Area of a marker grows with the peak memory.
size(mib, n) = 0.6 + 0.9 * sqrt(mib / (n / 512.0) / 16.0)
point(n, label) = sprintf("< awk -F'\t' '$1 == %d && $2 == \"%s\"' '%s'", n, label, ours)
# The published methods whose error at this length is known, and their look.
published_methods(n) = system(sprintf("awk -F'\t' '$1 == %d && $9 != \"-\" && !seen[$2]++ {print $2}' '%s'", n, theirs))
published(n, m) = sprintf("< awk -F'\t' '$1 == %d && $2 == \"%s\" && $9 != \"-\"' '%s'", n, m, theirs)
colour_of(m) = m eq 'mra-2' ? vermilion : m eq 'mra-2-s' ? orange : m eq 'transformer' ? black : \
    m eq 'bigbird' ? '#7a7a7a' : m eq 'longformer' ? purple : m eq 'nystromformer' ? sky : '#b0a060'
name_of(m) = m eq 'mra-2' ? 'MRA-2' : m eq 'mra-2-s' ? 'MRA-2-s' : m eq 'transformer' ? 'exact' : \
    m eq 'bigbird' ? 'BigBird' : m eq 'longformer' ? 'Longformer' : m eq 'nystromformer' ? 'Nyströmformer' : \
    m eq 'scatterbrain' ? 'Scatterbrain' : m

set multiplot
set grid; set logscale x
set xtics (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
do for [p=1:panels] {
    n = word(lengths, p) + 0
    bottom = panels == 2 ? 0.58 - 0.46 * (p - 1) : 0.14
    top = panels == 2 ? 0.94 - 0.46 * (p - 1) : 0.94
    set tmargin at screen top; set bmargin at screen bottom
    set lmargin at screen 0.075; set rmargin at screen 0.47
    set title sprintf("n = %d: this machine, heads trained here", n) offset 0, -0.5
    set ylabel "relative error of Z" offset 1, 0
    set xlabel p == panels ? "forward + backward of 12 heads × 64 (ms)" : ""
    set yrange [0:1]; set ytics 0.2; set xrange [*:*]; set offsets graph 0.06, graph 0.06, 0, 0; set autoscale xfix
    if (p == 1) { set key top right horizontal maxrows 3 Left reverse box linecolor rgb hair opaque samplen 1 spacing 1.1 } else { set key off }
    plot for [i=1:4] point(n, word(labels, i)) using 7:9:(size($8, n)) with points pointtype 7 pointsize variable \
             linecolor rgb word(colours, i) notitle, \
         for [i=1:4] point(n, word(labels, i)) using 7:9 with lines linewidth 1.5 linecolor rgb word(colours, i) \
             notitle, \
         for [i=1:4] NaN with points pointtype 7 pointsize 1.4 linecolor rgb word(colours, i) title word(names, i), \
         point(n, 'exact') using 7:9:(size($8, n)) with points pointtype 5 pointsize variable linecolor rgb black notitle, \
         NaN with points pointtype 5 pointsize 1.4 linecolor rgb black title 'exact'
    unset label 99
    unset key; set key notitle
    set lmargin at screen 0.535; set rmargin at screen 0.83
    set title sprintf("n = %d: published (GPU, RoBERTa)", n) offset 0, -0.5
    unset ylabel
    set xlabel p == panels ? "forward + backward (ms, another machine)" : ""
    set key vertical maxrows auto at screen 0.845, screen top left top Left reverse samplen 1 spacing 1.1 title "published\n(area: peak MiB)" left
    if (!strstrt(published_methods(n), 'mra-2')) {
        set label 98 "(the errors of MRA at this\nlength were not published)" at graph 0.45, graph 0.9 font ',11' textcolor rgb pale
    }
    plot for [m in published_methods(n)] published(n, m) using 6:9:(size($8, n)) with points \
             pointtype (m eq 'transformer' ? 4 : 6) linewidth 2 pointsize variable linecolor rgb colour_of(m) notitle, \
         for [m in published_methods(n)] published(n, m) using 6:9 with lines linewidth 1.2 linecolor rgb colour_of(m) notitle, \
         for [m in published_methods(n)] NaN with points pointtype (m eq 'transformer' ? 4 : 6) linewidth 2 pointsize 1.4 \
             linecolor rgb colour_of(m) title name_of(m)
}
unset multiplot
