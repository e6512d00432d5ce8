# The one style of all figures. A script sets `width` and `height` (pixels), loads this file, and plots.
#
# Variables from the command line (gnuplot -e "..."), all required:
#   results   folder with the tables of one profile, e.g. 'build/results/laptop'
#   output    path of the picture
#   format    'svg' or 'png'
#   source    one line that says where the numbers come from (profile, machine, commit)
#
# Sizes are chosen for slides: 1 picture pixel is about 1/1000 of a slide's width, so 15 px text is
# legible from the back row. Colours are Okabe and Ito's, which stay apart for every kind of colour vision; series also differ
# in line or marker. Heat maps use a ramp like viridis: lightness rises evenly, so it survives grey printing.

if (format eq 'png') {
    set terminal pngcairo size width, height enhanced font 'DejaVu Sans,11' background rgb '#ffffff'
} else {
    set terminal svg size width, height enhanced font 'DejaVu Sans,Helvetica,Arial,sans-serif,15' \
        background rgb '#ffffff'
}
set output output
set encoding utf8

ink = '#222222'; pale = '#8a8a8a'; hair = '#e2e2e2'
black = '#000000'; orange = '#e69f00'; sky = '#56b4e9'; green = '#009e73'
blue = '#0072b2'; vermilion = '#d55e00'; purple = '#cc79a7'

set border 3 linecolor rgb ink linewidth 1
set tics nomirror out scale 0.6 textcolor rgb ink
set xlabel textcolor rgb ink
# The SVG terminal sets labels of axes half a line lower, where the source line is.
if (format ne 'png') { set xlabel offset 0, 0.6 }
small_font = format eq 'png' ? ',9' : ',12'
set ylabel textcolor rgb ink
set title textcolor rgb ink
set key textcolor rgb ink samplen 2 spacing 1.15 noautotitle
set grid linecolor rgb hair linetype 1 linewidth 0.8
set style data lines
set datafile separator "\t"
set datafile missing '-'
set pointsize 0.8

viridis = "(0 '#440154', 0.1 '#482475', 0.2 '#414487', 0.3 '#355f8d', 0.4 '#2a788e', \
    0.5 '#21918c', 0.6 '#22a884', 0.7 '#44bf70', 0.8 '#7ad151', 0.9 '#bddf26', 1 '#fde725')"
set palette defined @viridis

# The source line; a script with several panels says `unset label 99` after the first.
set label 99 source at screen 0.008, screen 0.018 left font ',9' textcolor rgb pale noenhanced

# A table column of the first line that matches: cell('file.tsv', 'column', row counted from 1).
cell(file, column, row) = system(sprintf("awk -F'\t' -v want='%s' -v row=%d 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == want) c = i} NR == row + 1 {print $c}' '%s'", column, row, file))
# Lines of data in a table.
rows(file) = int(system(sprintf("awk 'END {print NR - 1}' '%s'", file)))
# The header of a .npy file with a small shape has this many bytes.
npy_header = 128
# A square picture, first row on top, for `plot @picture with image`. (Inside a loop macros are expanded too early: there,
# `plot file binary array=(n,n) skip=npy_header format="%float32" flipy with image`.)
picture(file, n) = sprintf("'%s' binary array=(%d,%d) skip=npy_header format='%%float32' flipy", file, n, n)
# The side of a square picture: the first number of the shape in its header.
side_of(file) = int(system(sprintf("head -c 128 '%s' | tr -dc '[:print:]' | sed -n \"s/.*'shape': (\\([0-9]*\\),.*/\\1/p\"", file)))
# Lines of a table whose column c is v; and the same with a second condition.
where(file, c, v) = sprintf("< awk -F'\t' '$%d == \"%s\"' '%s'", c, v, file)
where2(file, c, v, d, w) = sprintf("< awk -F'\t' '$%d == \"%s\" && $%d == \"%s\"' '%s'", c, v, d, w, file)

# The methods of the comparison: how each is written, coloured and marked in every figure.
method_name(m) = m eq 'exact' ? 'exact' : m eq 'mra2' ? 'MRA-2' : m eq 'mra2s' ? 'MRA-2-s' : m eq 'mra' ? 'MRA' : \
    m eq 'performer' ? 'Performer' : m eq 'linformer' ? 'Linformer' : m eq 'soft' ? 'SOFT' : m eq 'soft-conv' ? 'SOFT + conv' : \
    m eq 'nystromformer' ? 'Nyströmformer' : m eq 'nystromformer-conv' ? 'Nyströmf. + conv' : m eq 'yoso' ? 'YOSO' : \
    m eq 'yoso-conv' ? 'YOSO + conv' : m eq 'reformer' ? 'Reformer' : m eq 'longformer' ? 'Longformer' : m eq 'bigbird' ? 'Big Bird' : \
    m eq 'htransformer1d' ? 'H-Transformer-1D' : m eq 'scatterbrain' ? 'Scatterbrain' : m
method_colour(m) = m eq 'exact' ? black : m eq 'mra2' ? vermilion : m eq 'mra2s' ? orange : m eq 'longformer' ? purple : \
    m eq 'bigbird' ? '#7a7a7a' : m eq 'reformer' ? '#8c510a' : m eq 'htransformer1d' ? green : m eq 'scatterbrain' ? '#b0a030' : \
    m eq 'performer' ? blue : m eq 'linformer' ? '#b2182b' : m[1:13] eq 'nystromformer' ? sky : m[1:4] eq 'soft' ? '#762a83' : \
    m[1:4] eq 'yoso' ? '#35978f' : '#555555'
method_point(m) = m eq 'mra2' || m eq 'mra2s' ? 7 : m eq 'exact' ? 5 : strstrt(m, '-conv') ? 4 : m eq 'longformer' || m eq 'performer' ? 9 : \
    m eq 'bigbird' || m eq 'linformer' ? 11 : m eq 'reformer' || m[1:4] eq 'soft' ? 13 : m eq 'scatterbrain' || m[1:4] eq 'yoso' ? 15 : 3
method_learns(m) = m eq 'linformer' || m[1:4] eq 'soft' || strstrt(m, '-conv') > 0
# An option as a reader says it: "landmarks=64" is "64 landmarks".
option_key(o) = o[1:strstrt(o, '=') - 1]
option_value(o) = o[strstrt(o, '=') + 1:*]
option_text(o) = o eq '-' ? '' : option_key(o) eq 'window' ? 'window of '.option_value(o) : option_key(o) eq 'block' ? 'blocks of '.option_value(o) : \
    option_key(o) eq 'bucket' ? 'chunks of '.option_value(o) : option_key(o) eq 'k' ? 'k = '.option_value(o) : \
    option_key(o) eq 'variant' ? option_value(o) : option_value(o).' '.option_key(o)
