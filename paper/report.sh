#!/bin/sh
# Makes the report of a profile: build/report/index.html, one page that needs no network.
#
# usage: sh paper/report.sh [PROFILE]        (the last step of make reproduce; default profile: laptop)
#
# Text from paper/chapters (the same that the book has beside the code), figures from build/figures/PROFILE,
# tables and verdicts from build/results/PROFILE.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
profile=${1:-laptop}
results=build/results/$profile figures=build/figures/$profile report=build/report
code=0
. paper/pages.sh
[ -d "$results" ] || {
    echo "report: $results: no results yet; run: make reproduce PROFILE=$profile" >&2
    exit 2
}
sh paper/audit.sh "$profile" >"$results/audit.log"
mkdir -p "$report"
cp paper/style.css "$report/"
copy_figures "$figures" "$report"
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT

{
    echo '<ol>'
    for chapter in $(chapters); do
        name=$(identifier "$chapter")
        [ -z "$name" ] || echo "<li><a href=\"#$name\">$(title "$chapter")</a></li>"
    done
    echo '<li><a href="#sec-audit">The claims, checked</a></li><li><a href="#sec-runs">The runs behind this page</a></li></ol>'
} >"$pages/nav.html"

{
    for chapter in $(chapters); do
        expand "$chapter"
        echo
        [ "$chapter" != "$(chapters | head -n 1)" ] || [ -z "$(find "$results" -name "*.run.json")" ] || gawk -f paper/runs.awk -v mode=headline -v profile="$profile" "$results"/*.run.json
        echo
    done
    gawk -F'\t' -f paper/verdicts.awk "$results/audit.tsv"
    [ -z "$(find "$results" -name "*.run.json")" ] || gawk -f paper/runs.awk -v mode=table "$results"/*.run.json
} | to_html "$report/index.html" report "MRA attention, reproduced ($profile)" "$pages/nav.html" \
    "Profile $profile, commit $(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)."
number_pages "$report/index.html"
echo "report: $report/index.html"
