# Figure "curves": the loss of the trainings behind the tables, step by step.
width = 1200; height = 760
load 'figures/style.gp'
table = results.'/curves.tsv'
# The fullest profile of which there are runs.
shown = system(sprintf("awk -F'\t' 'NR > 1 { has[$1] = 1 } END { print has[\"paper\"] ? \"paper\" : has[\"reduced\"] ? \"reduced\" : has[\"laptop\"] ? \"laptop\" : \"smoke\" }' '%s'", table))
tasks = 'listops text retrieval image pathfinder32'
heading = 'ListOps|Text|Retrieval|Image|Pathfinder-32'
title_of(i) = system(sprintf("echo '%s' | cut -d'|' -f%d", heading, i)).(i == 3 && shown ne 'paper' ? ' (stand-in: same film?)' : '')
methods = 'exact mra2 mra2s linformer performer nystromformer nystromformer-conv soft soft-conv yoso yoso-conv reformer longformer bigbird scatterbrain htransformer1d'
run_of(task, method) = sprintf("< awk -F'\t' '$1 == \"%s\" && $2 == \"%s\" && $3 == \"%s\" && $6 == \"train\" { if ($4 != seed && seed != \"\") print \"\"; seed = $4; print $5 \"\t\" $7 }' '%s'", shown, task, method, table)
# The methods of which there are runs.
ran(task) = system(sprintf("awk -F'\t' '$1 == \"%s\" && $2 == \"%s\" && !seen[$3]++ { printf \"%%s \", $3 }' '%s'", shown, task, table))
dash_of(m) = strstrt(m, '-conv') ? 2 : 1
set multiplot
set xlabel 'step'
do for [i=1:5] {
    column = (i - 1) % 3; row = (i - 1) / 3
    set lmargin at screen 0.075 + 0.325 * column; set rmargin at screen 0.325 + 0.325 * column
    if (column == 0) { set ylabel 'loss, nats' offset 1 } else { unset ylabel }
    set tmargin at screen 0.94 - 0.50 * row; set bmargin at screen 0.60 - 0.50 * row
    set title title_of(i)
    if (ran(word(tasks, i)) ne '') {
        set autoscale
        plot for [m in ran(word(tasks, i))] run_of(word(tasks, i), m) using 1:2 with lines \
            linecolor rgb method_colour(m) linewidth 1.4 dashtype dash_of(m)
    } else {
        set xrange [0:1]; set yrange [0:1]
        set label 1 'not run' at graph 0.5, graph 0.5 center textcolor rgb pale
        plot NaN
        unset label 1
    }
    unset label 99
}
unset border; unset tics; unset xlabel; unset ylabel; unset title; unset grid
set lmargin at screen 0.70; set rmargin at screen 0.98; set tmargin at screen 0.46; set bmargin at screen 0.06
set xrange [0:1]; set yrange [0:1]
set key at screen 0.97, screen 0.46 right top maxrows 8 samplen 1.6 spacing 1.25 width -2 title 'profile '.shown
plot for [m=1:words(methods)] NaN with lines linecolor rgb method_colour(word(methods, m)) linewidth 2.4 \
    dashtype dash_of(word(methods, m)) title method_name(word(methods, m))
unset multiplot
