#!/bin/sh
# Every figure and table of a profile: measure, draw, report.
#
# usage: sh experiments/reproduce.sh [--profile smoke|laptop|reduced|paper] [--threads N] [--inputs DIR] [--only NAME] [--png]
#                                    [--no-report] [--seeds "1 2 3"] [--list] [--yes]
#
# Drivers run in the order of the paper. A driver whose settings, inputs and version are those of its finished run says so
# and ends at once, and one that was killed continues, so this script may be interrupted and started again at any time.
# The trainings of the profile's tables are planned and priced first (experiments/plan.sh), and run after the figures, --threads
# at a time with one thread each; --list ends after the plan. What would take more than a day needs --yes.
# A figure is drawn anew when its run or its script is newer. Results: build/results/PROFILE, figures:
# build/figures/PROFILE, page: build/report/index.html.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
profile=laptop threads='' inputs=paper/inputs only='' png='' report=yes seeds=1 list='' yes=''
need() { # need OPTION ARGUMENTS-LEFT
    [ "$2" -gt 1 ] || {
        echo "reproduce: $1: expected a value" >&2
        exit 2
    }
}
while [ $# -gt 0 ]; do
    case $1 in
    --profile | --threads | --inputs | --only | --seeds) need "$1" $# ;;
    esac
    case $1 in
    --profile) profile=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --inputs) inputs=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --list) list=yes; shift ;;
    --yes) yes=yes; shift ;;
    --png) png=yes; shift ;;
    --no-report) report=; shift ;;
    *)
        echo "reproduce: $1: unknown option; expected --profile, --threads, --inputs, --only, --png, --no-report, --seeds, --list or --yes" >&2
        exit 2
        ;;
    esac
done
threads=${threads:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
# Idle threads sleep: times are steadier when something else runs too.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

experiments='related wavelet coefficient selection illustration approximation efficiency entropy certificate optimal datasets'
trainings=yes
if [ -n "$only" ]; then
    case " $experiments cells " in
    *" $only "*) ;;
    *)
        echo "reproduce: --only: '$only' is not one of $experiments cells" >&2
        exit 2
        ;;
    esac
    if [ "$only" = cells ]; then experiments=''; else experiments=$only trainings=''; fi
fi
results=$build/results/$profile
figures=$build/figures/$profile
started=$(date +%s)

# field FILE KEY: the first string or number with this key in a run record.
field() {
    sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" | head -n 1
}

# draw_from SOURCE DATA NAME FORMAT: build/figures/PROFILE/NAME.FORMAT with a line that says where it comes from, unless it is newer than
# all that it is made of.
draw_from() {
    picture=$figures/$3.$4
    if [ -e "$picture" ] && [ -z "$(find "$2" "figures/$3.gp" figures/style.gp -newer "$picture")" ]; then
        return 0
    fi
    mkdir -p "$figures"
    if ! message=$(LC_ALL=C.UTF-8 gnuplot -e "results='$results'; output='$picture.tmp'; format='$4'; source='$1'" \
        "figures/$3.gp" 2>&1) || [ -n "$message" ]; then
        rm -f "$picture.tmp"
        echo "reproduce: figures/$3.gp: gnuplot: $(echo "$message" | grep -v '^ *^* *$' | tail -n 1)" >&2
        exit 1
    fi
    mv "$picture.tmp" "$picture"
}

# draw NAME FORMAT: the figure of a driver, whose run record says the rest.
draw() {
    record=$results/$1.run.json
    source="profile $profile · $(field "$record" processor), $(field "$record" cores) cores · commit $(field "$record" commit)"
    draw_from "$source · $(field "$record" started | cut -c 1-10)" "$record" "$1" "$2"
}

# train_cells: the plan's runs, then their tables and curves. A run that fails leaves a hole in a table, and the status.
failed=0
train_cells() {
    sh experiments/sweep.sh --profile "$profile" --jobs "$threads" --threads 1 || failed=1
    sh paper/cells.sh "$profile"
    [ "$(wc -l <"$results/curves.tsv")" -gt 1 ] || return 0
    runs=$(awk -F '\t' 'NR > 1 && !seen[$1, $14]++ { printf "%s%s (%s)", mark, $1, $14; mark = "; " }' "$results/cells.tsv")
    draw_from "runs: $runs" "$results/curves.tsv" curves svg
    [ -z "$png" ] || draw_from "runs: $runs" "$results/curves.tsv" curves png
}

if [ -n "$trainings" ]; then
    sh experiments/plan.sh --profile "$profile" --seeds "$seeds" >&2
    plan=$build/plan/$profile.tsv
    if [ -n "$list" ]; then
        cut -f 1-4 "$plan"
        exit 0
    fi
    days=$(awk -F '\t' 'NR > 1 && $3 != "done" && $3 != "no-data" { hours += $4 } END { printf "%d", hours / 24 }' "$plan")
    if [ "$days" -ge 1 ] && [ -z "$yes" ]; then
        echo "reproduce: that is $days days and more on this machine; go on with --yes (make reproduce PROFILE=$profile YES=yes)," \
            "or spread the plan over several machines with experiments/sweep-parallel.sh or sweep-slurm.sh" >&2
        exit 2
    fi
fi

count=0 total=$(echo "$experiments" | wc -w)
for name in $experiments; do
    count=$((count + 1))
    echo "[$count/$total] $name" >&2
    "$build/release/experiments/$name" --profile "$profile" --threads "$threads" --inputs "$inputs" --out "$results"
    draw "$name" svg
    [ -z "$png" ] || draw "$name" png
done
[ -z "$trainings" ] || train_cells
[ -z "$report" ] || sh paper/report.sh "$profile"
echo "reproduced in $(($(date +%s) - started)) s: figures in $figures, tables in $results" >&2
exit $failed
