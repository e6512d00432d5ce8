#!/bin/sh
# Plans the training runs of a profile's tables: which there are, which are done, what the others will cost here.
#
# usage: sh experiments/plan.sh [--profile smoke|laptop|reduced|paper] [--seeds "1 2 3"] [--threads N] [--no-estimate] [--quiet]
#
# Writes the settings of every cell to build/cells/PROFILE/TABLE/TASK/METHOD.ini (experiments/cells/settings.awk) and the plan to
# build/plan/PROFILE.tsv, a row a run: cell, seed, state, hours, settings, folder, command, note. state: done (its result is newer than
# its settings), begun (a checkpoint is there, the command continues), to-do, or no-data (what is missing is in the note).
# hours: timed with a few passes on random tokens by `mra train --estimate`, with this many threads and the machine as busy as it is;
# kept from an earlier plan while the settings are the same. Prints a summary.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
profile=laptop seeds=1 threads=1 estimate=yes quiet=''
while [ $# -gt 0 ]; do
    case $1 in
    --profile | --seeds | --threads)
        [ $# -gt 1 ] || {
            echo "plan: $1: expected a value" >&2
            exit 2
        }
        ;;
    esac
    case $1 in
    --profile) profile=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --no-estimate) estimate=; shift ;;
    --quiet) quiet=yes; shift ;;
    *)
        echo "plan: $1: unknown option; expected --profile, --seeds, --threads, --no-estimate or --quiet" >&2
        exit 2
        ;;
    esac
done
case $profile in
smoke | laptop | reduced | paper) ;;
*)
    echo "plan: --profile: '$profile' is not one of smoke, laptop, reduced, paper" >&2
    exit 2
    ;;
esac
# Idle threads sleep, as in the runs themselves.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
mra=$build/release/bin/mra
cells=$build/cells/$profile plan=$build/plan/$profile.tsv
mkdir -p "$cells" "$build/plan"
list=$(mktemp) fresh=$(mktemp)
trap 'rm -f "$list" "$fresh"' EXIT
tables=paper/published
gawk -v profile="$profile" -v out="$cells" -f experiments/cells/settings.awk experiments/cells/profiles.tsv \
    $tables/lra_tasks.tsv $tables/lra_methods.tsv >"$list"
total=$(wc -l <"$list") count=0
tab=$(printf '\t')

# value TABLE KEY: from the two-column table that --check and --estimate print.
value() { sed -n "s/^$2$tab//p" "$1"; }
# known FILE SUM: the hours that an earlier plan has for these settings and threads.
known() {
    [ ! -e "$plan" ] || awk -F '\t' -v settings="$1" -v sum="$2" '$5 == settings && index($8, sum) && $4 != "-" { print $4; exit }' "$plan"
}

# consider TABLE TASK METHOD FILE: the rows of one cell.
consider() {
    sum="settings $(cksum <"$4" | cut -d ' ' -f 1), $threads threads"
    hours=$(known "$4" "$sum")
    how=--check
    if [ -z "$hours" ] && [ -n "$estimate" ]; then how=--estimate; fi
    if ! "$mra" train "$4" $how --threads "$threads" >"$fresh" 2>&1; then
        echo "plan: $4: $(tail -n 1 "$fresh")" >&2
        exit 2
    fi
    hours=${hours:-$(value "$fresh" hours)}
    data=$(value "$fresh" data)
    for seed in $seeds; do
        folder=${4%.ini}/seed-$seed state="to-do" note=$sum
        [ ! -e "$folder/checkpoint.safetensors" ] || state=begun
        if [ -e "$folder/result.tsv" ] && [ -z "$(find "$4" -newer "$folder/result.tsv")" ]; then state="done"; fi
        case $data in
        absent*) [ "$state" = "done" ] || { state=no-data; note="$sum; ${data#absent: }"; } ;;
        esac
        printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1/$2/$3" "$seed" "$state" "${hours:--}" "$4" "$folder" \
            "$mra train $4 --seed $seed --out $folder" "$note"
    done
}

printf 'cell\tseed\tstate\thours\tsettings\tfolder\tcommand\tnote\n' >"$plan.new"
while IFS=$tab read -r table task method file; do
    count=$((count + 1))
    if [ -z "$quiet" ] && [ -t 2 ]; then printf '\rplan: %d of %d ' "$count" "$total" >&2; fi
    consider "$table" "$task" "$method" "$file" </dev/null >>"$plan.new"
done <"$list"
if [ -z "$quiet" ] && [ -t 2 ]; then printf '\r\033[K' >&2; fi
mv "$plan.new" "$plan"
[ -n "$quiet" ] || awk -F '\t' -v plan="$plan" -v threads="$threads" '
    NR > 1 { runs++; state[$3]++; if ($3 != "done" && $3 != "no-data") { if ($4 == "-") unknown = 1; else hours += $4 } }
    END {
        printf "%s: %d runs; %d done, %d begun, %d to do, %d without data", plan, runs, state["done"], state["begun"], state["to-do"], state["no-data"]
        if (state["begun"] + state["to-do"]) {
            if (unknown) printf "; time not estimated"
            else if (hours < 1) printf "; about %.0f minutes here, one after another with --threads %d", 60 * hours, threads
            else printf "; about %.1f hours here, one after another with --threads %d", hours, threads
        }
        print ""
    }' "$plan"
