# verdicts.awk: the audit's table as Markdown for the report. Input: audit.tsv.
NR == 1 {
    print "# The claims, checked {#sec-audit}\n"
    print "Each row of `paper/claims.tsv` is a comparison of two measured or published numbers, evaluated by `make audit`. A claim"
    print "that fails is a finding, not an error of the run. `paper/claims.tsv` has the rule of each, and a claim that was not measured"
    print "says which profile measures it.\n"
    print "| verdict | claim | measured | | against | where | measured by |"
    print "|--------|------------------------------------------------|-------:|:-:|-------:|----------------|-----------|"
    next
}
{
    class = $2 == "holds" ? "holds" : $2 == "fails" ? "fails" : "unmeasured"
    counted[class]++
    printf "| [%s]{.%s} | %s | %s | %s | %s | %s | `%s`, profile %s |\n", $2, class, $6, $3, $4 == "<" ? "\\<" : $4 == ">" ? "\\>" : $4, $5, $7, $8, $9
}
END { printf "\n%d hold, %d fail, %d are not measured in this profile.\n\n", counted["holds"], counted["fails"], counted["unmeasured"] }
