# Figure "approximation": attention of several trained heads (above) and its approximation (below).
width = 1200; height = 700
load 'figures/style.gp'
table = results.'/approximation.tsv'
n = side_of(results.'/approximation-a0.npy')
panels = rows(table) > 4 ? 4 : rows(table)
set multiplot
unset grid; unset tics; unset border; unset colorbox
set xrange [-0.5:n - 0.5]; set yrange [-0.5:n - 0.5]; set cbrange [-5:0]
set label 1 "exact" at screen 0.015, screen 0.69 rotate by 90 center textcolor rgb ink
set label 2 "approximation" at screen 0.015, screen 0.28 rotate by 90 center textcolor rgb ink
do for [p=0:panels - 1] {
    set lmargin at screen 0.03 + 0.225 * p; set rmargin at screen 0.24 + 0.225 * p
    set tmargin at screen 0.87; set bmargin at screen 0.51
    set title sprintf("%s, head %s\nentropy %.2f nats", cell(table, 'set', p + 1), cell(table, 'head', p + 1), \
        real(cell(table, 'entropy', p + 1)))
    map = results.sprintf('/approximation-a%d.npy', p)
    plot map binary array=(n,n) skip=npy_header format="%float32" flipy with image
    unset label 99; unset label 1; unset label 2
    set tmargin at screen 0.46; set bmargin at screen 0.10
    set title
    set xlabel sprintf("error of Z: %.3f", real(cell(table, 'relative_error', p + 1)))
    if (p == panels - 1) {
        set colorbox user origin screen 0.935, screen 0.22 size screen 0.015, screen 0.5
        set cblabel "log_{10} of the attention probability"
        set cbtics 1 nomirror scale 0.4
    }
    map = results.sprintf('/approximation-hat%d.npy', p)
    plot map binary array=(n,n) skip=npy_header format="%float32" flipy with image
    set xlabel ''
}
unset multiplot
