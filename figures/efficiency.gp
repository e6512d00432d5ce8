# Figure "efficiency": error on trained heads against time (ours, measured here), one panel a length; and the published points on
# their own time axis (another machine: the panels' time axes cannot be compared).
width = 1300; height = 860
load 'figures/style.gp'
ours = results.'/efficiency.tsv'
theirs = 'paper/published/efficiency.tsv'
lengths = system(sprintf("awk -F'\t' 'NR > 1 && !seen[$1]++ {print $1}' '%s'", ours))
panels = words(lengths) > 2 ? 2 : words(lengths)
labels = system(sprintf("awk -F'\t' 'NR > 1 && $2 != \"exact\" && !seen[$2]++ {print $2}' '%s'", ours))
name_of(m) = m eq 'mra3' ? 'R = 16, 4, 1' : m eq 'mra4' ? 'R = 64, 16, 4, 1' : method_name(m).(method_learns(m) ? ' *' : '')
colour_of(m) = m eq 'mra3' ? '#e9a58b' : m eq 'mra4' ? '#c9b2a6' : method_colour(m)
weight_of(m) = m eq 'mra2' || m eq 'mra2s' ? 2.5 : 1.2
dash_of(m) = strstrt(m, '-conv') || m eq 'mra3' || m eq 'mra4' ? 2 : 1
# Area of a marker grows with the peak memory.
size(mib, n) = 0.5 + 0.6 * sqrt(mib / (n / 512.0) / 16.0)
point(n, label) = sprintf("< awk -F'\t' '$1 == %d && $2 == \"%s\"' '%s'", n, label, ours)
# Methods all of whose errors lie above the axis: named, so that they are not missed.
above(n) = system(sprintf("awk -F'\t' '$1 == %d {if (!($2 in low) || $10 < low[$2]) low[$2] = $10} END {for (m in low) if (low[m] > 1.3) print m}' '%s' | sort", n, ours))
names_of(list) = words(list) == 1 ? name_of(word(list, 1)) : name_of(word(list, 1)).', '.(words(list) == 2 ? name_of(word(list, 2)) : '…')
beyond(n) = above(n) eq '' ? '' : ' (above: '.names_of(above(n)).')'
# The published methods whose error at this length is known, by our names for them.
published_methods(n) = system(sprintf("awk -F'\t' '$1 == %d && $9 != \"-\" && !seen[$2]++ {print $2}' '%s'", n, theirs))
published(n, m) = sprintf("< awk -F'\t' '$1 == %d && $2 == \"%s\" && $9 != \"-\"' '%s'", n, m, theirs)
our_name(m) = m eq 'mra-2' ? 'mra2' : m eq 'mra-2-s' ? 'mra2s' : m eq 'transformer' ? 'exact' : m

set multiplot
set grid; set logscale x
set xtics (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
do for [p=1:panels] {
    n = word(lengths, p) + 0
    bottom = panels == 2 ? 0.57 - 0.475 * (p - 1) : 0.11
    top = panels == 2 ? 0.955 - 0.475 * (p - 1) : 0.955
    set tmargin at screen top; set bmargin at screen bottom
    set lmargin at screen 0.06; set rmargin at screen 0.475
    set title sprintf("n = %d: this machine, heads trained here{/*0.85 %s}", n, beyond(n)) offset 0, -0.5
    set ylabel "relative error of Z" offset 1, 0
    set xlabel p == panels ? "forward + backward of 12 heads × 64 (ms)" : ""
    set yrange [0:1.3]; set ytics 0.2; set xrange [*:*]; set offsets graph 0.06, graph 0.06, 0, 0; set autoscale xfix
    set key off
    plot for [m in labels] point(n, m) using 8:10:(size($9, n)) with points pointtype method_point(m) pointsize variable \
             linecolor rgb colour_of(m) notitle, \
         for [m in labels] point(n, m) using 8:10 with lines linewidth weight_of(m) dashtype dash_of(m) linecolor rgb colour_of(m) \
             notitle, \
         point(n, 'exact') using 8:10:(size($9, n)) with points pointtype 5 pointsize variable linecolor rgb black notitle
    unset label 99
    set lmargin at screen 0.525; set rmargin at screen 0.815
    set title sprintf("n = %d: published (GPU, RoBERTa)", n) offset 0, -0.5
    unset ylabel
    set xlabel p == panels ? "forward + backward (ms, another machine)" : ""
    if (!strstrt(published_methods(n), 'mra-2')) {
        set label 98 "(the errors of MRA at this\nlength were not published)" at graph 0.45, graph 0.93 font ',11' textcolor rgb pale
    }
    plot for [m in published_methods(n)] published(n, m) using 6:9:(size($8, n)) with points \
             pointtype (m eq 'transformer' ? 4 : 6) linewidth 2 pointsize variable linecolor rgb colour_of(our_name(m)) notitle, \
         for [m in published_methods(n)] published(n, m) using 6:9 with lines linewidth 1.2 linecolor rgb colour_of(our_name(m)) notitle
    unset label 98
}
# The legend: a column of its own, for all four panels.
set lmargin at screen 0.83; set rmargin at screen 0.995; set tmargin at screen 0.975; set bmargin at screen 0.09
unset border; unset tics; unset grid; unset xlabel; unset ylabel; unset title; unset logscale
set xrange [0:1]; set yrange [0:1]
set key top left Left reverse samplen 1.4 spacing 1.3 vertical maxrows 24 font ',12' title "area: peak memory\n* learns: as it begins" left
plot for [m in 'exact '.labels] NaN with linespoints pointtype method_point(m) pointsize 1.1 linewidth weight_of(m) dashtype dash_of(m) \
     linecolor rgb colour_of(m) title name_of(m) noenhanced
unset multiplot
