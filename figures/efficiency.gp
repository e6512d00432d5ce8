# Figure "efficiency": error on trained heads against time (ours, measured here), one panel a length; and the published points on
# their own time axis (another machine: the panels' time axes cannot be compared).
width = 1200; height = 700
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
point(n, label) = sprintf("< awk -F'\t' '$1 == %s && $2 == \"%s\"' '%s'", n, label, ours)
exact_ms(n) = real(system(sprintf("awk -F'\t' '$1 == %s && $2 == \"exact\" {print $7}' '%s'", n, ours)))
