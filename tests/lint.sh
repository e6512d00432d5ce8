#!/bin/sh
# Format, static checks and house rules; `make check` begins with it. A tool that is missing is noted, not an error.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
complain() {
    echo "lint: $1" >&2
    failed=1
}

# What is ours: the tracked files, or all but the build's where git is not at hand.
files() {
    { git ls-files -co --exclude-standard 2>/dev/null || find . -path ./build -prune -o -type f -print | sed 's|^\./||'; } |
        while read -r file; do [ ! -f "$file" ] || printf '%s\n' "$file"; done
}
all=$(files)
pick() { # pick REGEX: the files whose names match
    printf '%s\n' "$all" | grep -E -- "$1"
}
c_files=$(pick '\.(c|h|cu|cuh)$')
shell_files=$(pick '\.sh$|^\.ci/run$')

if command -v clang-format >/dev/null && clang-format --version | grep -q 'version 14'; then
    # shellcheck disable=SC2086  # names without blanks
    clang-format --dry-run -Werror $c_files || complain 'clang-format: run it on the files above'
else
    echo 'lint: no clang-format 14 here: the format is not checked'
fi

if command -v cppcheck >/dev/null; then
    # MRA_VERSION and the like come from the Makefile. The house does not include system headers.
    cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability --inline-suppr \
        --error-exitcode=1 --suppress=missingInclude --suppress=missingIncludeSystem -j 2 \
        -D_GNU_SOURCE -DMRA_VERSION='"0"' -DMRA_COMMIT='"0"' -U__cplusplus -UMRA_HAVE_LIBXSMM \
        -Isrc src experiments || complain 'cppcheck found something'
else
    echo 'lint: no cppcheck here'
fi

if command -v shellcheck >/dev/null; then
    # SC2317: functions that tests hand to others ("refuses ... attend") look unreachable.
    # shellcheck disable=SC2086
    shellcheck -x -P SCRIPTDIR -e SC2317 $shell_files || complain 'shellcheck found something'
else
    echo 'lint: no shellcheck here'
fi

# House rules.
text=$(pick '\.(c|h|cu|cuh|sh|awk|md|ini|gp|gnuplot|tsv|mk|in|yml)$|^Makefile$|^\.ci/run$' | grep -v '^tests/lint\.sh$')
# shellcheck disable=SC2086
grep -nE '\b(TODO|FIXME|XXX)\b' $text /dev/null && complain 'unfinished work is marked in the lines above'
# The same rule in programs of any make: no Python, by name or by first line.
pick '\.(py|pyx|ipynb)$' && complain 'no Python in this project'
# shellcheck disable=SC2086
[ -z "$all" ] || for file in $shell_files; do
    head -n 1 "$file" | grep -q python && complain "$file: no Python in this project"
done
for file in $(pick '\.(c|h|cu|cuh|sh|awk|gp|gnuplot)$|^Makefile$'); do
    lines=$(wc -l <"$file")
    [ "$lines" -le 600 ] || complain "$file: $lines lines: expected at most 600"
done
# The kernels are linked into one program: two types of one name would be taken for one, and with them the kernels
# that are made of them.
twice=$(for file in $(pick '^kernels/[^/]*\.cu$'); do
    sed -nE 's/^(template <.*> )?struct ([a-z0-9_]+) \{$/\2/p' "$file"
done | sort | uniq -d)
[ -z "$twice" ] || complain "kernels/*.cu: more than one struct of the name $twice"
# Functions of at most 80 lines, counted from the brace that opens to the one that closes, both in the first column.
# shellcheck disable=SC2086
awk 'FNR == 1 { start = 0 }
     /^\{/ { start = FNR }
     /^\}/ { if (start > 0 && FNR - start - 1 > 80) { print FILENAME ":" start ": a function of " FNR - start - 1 " lines"; bad = 1 }
             start = 0 }
     END { exit bad }' $c_files /dev/null || complain 'functions have at most 80 lines'
exit $failed
