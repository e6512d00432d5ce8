# Figure "illustration": one trained head, exact and refined step by step.
width = 1200; height = 830
load 'figures/style.gp'
table = results.'/illustration.tsv'
n = side_of(results.'/illustration-0.npy')
panels = rows(table) > 6 ? 6 : rows(table)
set multiplot
unset grid; unset tics; unset border; unset colorbox
set xrange [-0.5:n - 0.5]; set yrange [-0.5:n - 0.5]; set cbrange [-5:0]
do for [p=0:panels - 1] {
    map = results.sprintf('/illustration-%d.npy', p)
    column = p % 3; row = p / 3
    set lmargin at screen 0.02 + 0.305 * column; set rmargin at screen 0.305 + 0.305 * column
    set tmargin at screen 0.92 - 0.46 * row; set bmargin at screen 0.52 - 0.46 * row
    entries = int(cell(table, 'entries', p + 1))
    if (p == 0) {
        set title sprintf("exact (%s, head %s, entropy %.2f)", cell(table, 'set', 1), cell(table, 'head', 1), \
            real(cell(table, 'entropy', 1)))
    } else {
        share = 100.0 * entries / (n * n)
        set title (entries == 0 ? "coarse only" : sprintf("%s per row (%.3g %% of A)", cell(table, 'blocks', p + 1), share)) \
            .sprintf(": error of Z %.3f", real(cell(table, 'relative_error', p + 1)))
    }
    if (p == panels - 1) {
        set colorbox user origin screen 0.935, screen 0.25 size screen 0.015, screen 0.5
        set cblabel "log_{10} of the attention probability"
        set cbtics 1 nomirror scale 0.4
    }
    plot map binary array=(n,n) skip=npy_header format="%float32" flipy with image
    unset label 99
}
unset multiplot
