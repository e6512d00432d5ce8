# Figure "related": the matrix that every method applies to V on one trained head.
load_table = results.'/related-matrices.tsv'
panels = int(system(sprintf("awk 'END {print NR - 1}' '%s'", load_table)))
across = 5; down = (panels + across - 1) / across
width = 1200; height = 64 + 256 * down
load 'figures/style.gp'
table = load_table
n = side_of(results.'/related-0.npy')
set multiplot
unset grid; unset tics; unset border; unset colorbox
set xrange [-0.5:n - 0.5]; set yrange [-0.5:n - 0.5]; set cbrange [-5:0]
high = 256.0 / height; head = 56.0 / height
do for [p=0:panels - 1] {
    map = results.sprintf('/related-%d.npy', p)
    column = p % across; row = p / across
    set lmargin at screen 0.012 + 0.182 * column; set rmargin at screen 0.178 + 0.182 * column
    set tmargin at screen 1 - head - high * row; set bmargin at screen 1 - head - high * row - 200.0 / height
    name = cell(table, 'method', p + 1)
    options = cell(table, 'options', p + 1)
    below = p == 0 ? sprintf("entropy %.2f nats", real(cell(table, 'entropy', 1))) : option_text(options)
    set title method_name(name).(method_learns(name) ? ' *' : '')."\n{/*0.85 ".below."}" font ',14' offset 0, -0.6
    if (p == panels - 1) {
        set colorbox user origin screen 0.935, screen 0.25 size screen 0.012, screen 0.5
        set cblabel "log_{10} of the weight"
        set cbtics 1 nomirror scale 0.4
    }
    plot map binary array=(n,n) skip=npy_header format="%float32" flipy with image
    unset label 99
}
unset multiplot
