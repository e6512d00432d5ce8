#!/bin/sh
# Manual pages: one for the program and one for each subcommand, with the options that --help lists and nothing that roff complains of.
. "$(dirname "$0")/../tap.sh"

passes 'mra --manual' "$mra" --manual
prints 'is a page of section 1' '^\.TH "MRA" 1 '
pages=$(sed -n 's/^\\fBmra\\-\(.*\)\\fR(1)$/\1/p' "$work/stdout")
[ "$(echo "$pages" | wc -w)" -ge 8 ]
ok $? 'names the pages of the subcommands'

# options FORM: the options that the last output lists, in their order.
options() {
    case $1 in
    help) sed -n 's/^  \(--[a-z-]*\).*/\1/p' "$work/stdout" ;;
    manual) sed -n 's/^\\fB\(\\-\\-[^ ]*\)\\fR.*/\1/p' "$work/stdout" | sed 's/\\//g' ;;
    esac
}
for page in '' $pages; do
    if [ -n "$page" ]; then
        run "$mra" "$page" --help
        listed=$(options help)
        passes "mra --manual $page" "$mra" --manual "$page"
        [ -n "$listed" ] && [ "$(options manual)" = "$listed" ]
        ok $? "lists the options of mra $page --help"
    fi
    if command -v groff >/dev/null && groff -man -Tascii /dev/null >/dev/null 2>&1; then
        complaints=$(groff -man -ww -z "$work/stdout" 2>&1)
        [ -z "$complaints" ]
        ok $? "roff takes mra${page:+-}$page(1)"
        [ -z "$complaints" ] || note "$complaints"
    else
        skip "roff takes mra${page:+-}$page(1)" 'no groff with the macros of man(7) here'
    fi
    stray=$(grep "^[.']" "$work/stdout" | grep -vE '^\.(TH|SH|TP|PP|br|nf|fi)( |$)'
        grep -E '\\fB[^\\]*$' "$work/stdout")
    [ -z "$stray" ]
    ok $? "mra${page:+-}$page(1) has no stray request and no bold that never ends"
done

refuses 'a page for an unknown subcommand' "'nosuch'" "$mra" --manual nosuch
finish
