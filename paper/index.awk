# index.awk: the text of finished pages, section by section, for the search of the book: a JavaScript array on stdout.
#
# usage: gawk -f paper/index.awk PAGE.html ...
function text_of(html) {
    gsub(/<annotation[^>]*>[^<]*<\/annotation>/, "", html); gsub(/<[^>]*>/, " ", html)
    gsub(/&lt;/, "<", html); gsub(/&gt;/, ">", html); gsub(/&quot;/, "\"", html); gsub(/&amp;/, "\\&", html)
    gsub(/[ \t\n\r]+/, " ", html)
    return html
}
function quoted(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); gsub(/[[:cntrl:]]/, " ", s); gsub(/<\//, "<\\/", s); return "\"" s "\"" }
BEGIN { RS = "^$"; print "const searchIndex = [" }
{
    page = FILENAME; sub(/.*\//, "", page)
    match($0, /<title>([^<]*)<\/title>/, title)
    main = $0; sub(/^.*<main>/, "", main); sub(/<footer>.*/, "", main); gsub(/<script[^>]*>[^<]*<\/script>/, "", main)
    count = split(main, part, /<section /)
    for (i = 2; i <= count; i++) {
        if (!match(part[i], /id="([^"]*)"/, id) || !match(part[i], /<h[1-6][^>]*>(.*)<\/h[1-6]>/, head)) continue
        sub(/^[^>]*>/, "", part[i])
        heading = part[i]; sub(/<\/h[1-6]>.*/, "", heading)
        print "[" quoted(page "#" id[1]) "," quoted(text_of(title[1])) "," quoted(text_of(heading)) "," quoted(text_of(part[i])) "],"
    }
}
END { print "];" }
