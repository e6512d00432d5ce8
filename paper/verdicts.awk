# verdicts.awk: the audit's table as Markdown for the report. Input: audit.tsv.
NR == 1 {
    print "# The claims, checked {#sec-audit}\n"
    print "Each row of `paper/claims.tsv` is a comparison of two measured or published numbers, evaluated by `make audit`. A claim"
    print "that fails is a finding, not an error of the run.\n"
    print "| verdict | claim | measured | | against | where |"
    print "|--------|------------------------------------------------|-------:|:-:|-------:|----------------|"
    next
}
{
    class = $2 == "holds" ? "holds" : $2 == "fails" ? "fails" : "unmeasured"
    printf "| [%s]{.%s} | %s | %s | %s | %s | %s |\n", $2, class, $6, $3, $4 == "<" ? "\\<" : $4 == ">" ? "\\>" : $4, $5, $7
}
END { print "" }
