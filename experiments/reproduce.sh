#!/bin/sh
# Every figure and table of a profile: measure, draw, report.
#
# usage: sh experiments/reproduce.sh [--profile smoke|laptop] [--threads N] [--inputs DIR] [--only NAME] [--png]
#                                    [--no-report]
#
# Drivers run in the order of the paper. A driver whose settings, inputs and version are those of its finished run says so
# and ends at once, and one that was killed continues, so this script may be interrupted and started again at any time.
# A figure is drawn anew when its run or its script is newer. Results: build/results/PROFILE, figures:
# build/figures/PROFILE, page: build/report/index.html.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
profile=laptop threads='' inputs=paper/inputs only='' png='' report=yes
need() { # need OPTION ARGUMENTS-LEFT
    [ "$2" -gt 1 ] || {
        echo "reproduce: $1: expected a value" >&2
        exit 2
    }
}
while [ $# -gt 0 ]; do
    case $1 in
    --profile | --threads | --inputs | --only) need "$1" $# ;;
    esac
    case $1 in
    --profile) profile=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --inputs) inputs=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --png) png=yes; shift ;;
    --no-report) report=; shift ;;
    *)
        echo "reproduce: $1: unknown option; expected --profile, --threads, --inputs, --only, --png or --no-report" >&2
        exit 2
        ;;
    esac
done
threads=${threads:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
# Idle threads sleep: times are steadier when something else runs too.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

experiments='related wavelet coefficient selection illustration approximation efficiency entropy certificate optimal'
if [ -n "$only" ]; then
    case " $experiments " in
    *" $only "*) experiments=$only ;;
    *)
        echo "reproduce: --only: '$only' is not one of $experiments" >&2
        exit 2
        ;;
    esac
fi
results=$build/results/$profile
figures=$build/figures/$profile
started=$(date +%s)

# field FILE KEY: the first string or number with this key in a run record.
field() {
    sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" | head -n 1
}

# draw NAME FORMAT: build/figures/PROFILE/NAME.FORMAT, unless it is newer than all that it is made of.
draw() {
    record=$results/$1.run.json picture=$figures/$1.$2
    if [ -e "$picture" ] && [ -z "$(find "$record" "figures/$1.gp" figures/style.gp -newer "$picture")" ]; then
        return 0
    fi
    cores=$(field "$record" cores)
    source="profile $profile · $(field "$record" processor), $cores cores · commit $(field "$record" commit)"
    source="$source · $(field "$record" started | cut -c 1-10)"
    mkdir -p "$figures"
    if ! message=$(LC_ALL=C.UTF-8 gnuplot -e "results='$results'; output='$picture.tmp'; format='$2'; source='$source'" \
        "figures/$1.gp" 2>&1) || [ -n "$message" ]; then
        rm -f "$picture.tmp"
        echo "reproduce: figures/$1.gp: gnuplot: $(echo "$message" | grep -v '^ *^* *$' | tail -n 1)" >&2
        exit 1
    fi
    mv "$picture.tmp" "$picture"
}

count=0 total=$(echo "$experiments" | wc -w)
for name in $experiments; do
    count=$((count + 1))
    echo "[$count/$total] $name" >&2
    "$build/release/experiments/$name" --profile "$profile" --threads "$threads" --inputs "$inputs" --out "$results"
    draw "$name" svg
    [ -z "$png" ] || draw "$name" png
done
[ -z "$report" ] || sh paper/report.sh "$profile"
echo "reproduced in $(($(date +%s) - started)) s: figures in $figures, tables in $results" >&2
