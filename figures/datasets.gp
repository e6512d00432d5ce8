# Figure "datasets": a contact sheet of Pathfinder-32, and how labels and lengths are distributed.
width = 1200; height = 760
load 'figures/style.gp'
# Rows and columns of a picture, from the shape in its header.
shape(file, k) = int(system(sprintf("head -c 128 '%s' | tr -dc '[:print:]' | sed -n \"s/.*'shape': (\\([0-9]*\\), \\([0-9]*\\).*/\\%d/p\"", file, k)))
set multiplot
unset grid; unset tics; unset border; unset colorbox
set palette defined (0 '#f4f4f4', 1 '#000000')
set cbrange [0:255]
do for [label=0:1] {
    map = results.sprintf('/datasets-%d.npy', label)
    h = shape(map, 1); w = shape(map, 2)
    set lmargin at screen 0.02 + 0.49 * label; set rmargin at screen 0.49 + 0.49 * label
    set tmargin at screen 0.93; set bmargin at screen 0.44
    set xrange [-0.5:w - 0.5]; set yrange [-0.5:h - 0.5]
    set title (label == 0 ? "Pathfinder-32: the disks are on two curves" : "Pathfinder-32: the disks are on one curve")
    plot map binary array=(w,h) skip=npy_header format="%float32" flipy with image pixels
    unset label 99
}
set border 3; set tics nomirror out scale 0.6; set xtics nomirror; set ytics nomirror; set grid ytics
set tmargin at screen 0.33; set bmargin at screen 0.10
set style fill solid 0.9 noborder
set yrange [0:*]; set format y "%g %%"
labels = results.'/datasets-labels.tsv'; lengths = results.'/datasets-lengths.tsv'
set lmargin at screen 0.07; set rmargin at screen 0.33
set title "ListOps: answers"; set xrange [-0.6:9.6]; set xtics 1 nomirror; set boxwidth 0.8
plot where(labels, 1, 'listops') using 2:(100 * $4) with boxes linecolor rgb blue
set lmargin at screen 0.42; set rmargin at screen 0.80
set title "ListOps: tokens of an expression"; set autoscale x; set xtics auto nomirror
set boxwidth 0.9 relative
plot lengths using (($2 + $3) / 2.0):(100 * $5) skip 1 with boxes linecolor rgb blue
set lmargin at screen 0.87; set rmargin at screen 0.97
set title "Pathfinder-32: labels"; set xrange [-0.6:1.6]; set xtics 1 nomirror; set boxwidth 0.8 absolute
plot where(labels, 1, 'pathfinder32') using 2:(100 * $4) with boxes linecolor rgb blue
unset multiplot
