# shellcheck shell=sh
# For shell tests: TAP output, runs of the program, and small .npy arrays made by awk. Source it:
#
#     . "$(dirname "$0")/../tap.sh"
#
# It moves into an empty folder that is removed at the end, and puts the program's path into $mra. A test ends with
# `finish`. MRA_BIN names the program (the Makefile sets it).

# shellcheck disable=SC2034  # $mra and $status are for the tests
mra=${MRA_BIN:?MRA_BIN: expected the path of the program mra}
export LC_ALL=C
tap_number=0
tap_failed=0
status=0
work=$(mktemp -d "${TMPDIR:-/tmp}/mra-test.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/here" && cd "$work/here" || exit 1

# ok STATUS DESCRIPTION: one test; passes if STATUS is 0.
ok() {
    tap_number=$((tap_number + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $tap_number - $2"
    else
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_number - $2"
    fi
}

# note TEXT: a diagnostic line for every line of TEXT.
note() {
    printf '%s\n' "$1" | sed 's/^/# /'
}

skip() { # skip DESCRIPTION REASON
    tap_number=$((tap_number + 1))
    echo "ok $tap_number - $1 # SKIP $2"
}

finish() {
    echo "1..$tap_number"
    [ "$tap_failed" -eq 0 ]
    exit
}

# run COMMAND...: sets $status; output lands in $work/stdout and $work/stderr.
run() {
    "$@" >"$work/stdout" 2>"$work/stderr"
    status=$?
}

# passes DESCRIPTION COMMAND...: status 0 expected.
passes() {
    tap_what=$1
    shift
    run "$@"
    ok "$status" "$tap_what"
    [ "$status" -eq 0 ] || note "status $status: $(cat "$work/stderr")"
}

# prints DESCRIPTION PATTERN: whether the last run's stdout has a line that matches the extended regular expression.
prints() {
    tap_result=0
    grep -Eq -- "$2" "$work/stdout" || tap_result=1
    ok "$tap_result" "$1"
    [ "$tap_result" -eq 0 ] || note "expected $2 in: $(head -5 "$work/stdout")"
}

# refuses DESCRIPTION PATTERN COMMAND...: status 2, nothing on stdout, exactly one line on stderr, which starts with
# "mra: " and matches the extended regular expression, and no file made, changed or left behind in this folder.
refuses() {
    tap_what=$1 tap_pattern=$2
    shift 2
    tap_before=$(snapshot)
    run "$@"
    tap_reason=
    [ "$status" -eq 2 ] || tap_reason="status $status instead of 2"
    [ ! -s "$work/stdout" ] || tap_reason="$tap_reason; something on stdout"
    [ "$(wc -l <"$work/stderr")" -eq 1 ] || tap_reason="$tap_reason; not one line on stderr"
    grep -Eq -- "$tap_pattern" "$work/stderr" || tap_reason="$tap_reason; expected $tap_pattern"
    grep -q '^mra: ' "$work/stderr" || tap_reason="$tap_reason; expected mra: first"
    [ "$(snapshot)" = "$tap_before" ] || tap_reason="$tap_reason; files changed: $(ls -A)"
    [ -z "$tap_reason" ]
    ok $? "$tap_what"
    [ -z "$tap_reason" ] || note "$tap_reason; stderr: $(cat "$work/stderr")"
}

# Names and contents of everything in this folder.
snapshot() {
    find . -type f -exec cksum {} + | sort
}

# ---- Arrays ---------------------------------------------------------------------------------------------------

# npy FILE TYPE SHAPE EXPRESSION: writes a .npy array. TYPE: f2, f4, f8, i4 or u1. SHAPE: sizes with commas, "3,4". The
# EXPRESSION gives element i (from 0) in awk; r(i, s) is uniform in (-1, 1) for a seed s, inf() and nan() are special.
npy() {
    gawk -b -v type="$2" -v shape="$3" '
    function r(i, s,    x) { x = sin(i * 12.9898 + s * 78.233 + 0.5) * 43758.5453
                             return 2 * (x - floor(x)) - 1 }
    function floor(x,    y) { y = int(x); return y > x ? y - 1 : y }
    function inf() { return "inf" }
    function nan() { return "nan" }
    function bytes(x, count) { while (count-- > 0) { printf "%c", x % 256; x = floor(x / 256) } }
    # IEEE 754 with e exponent and m mantissa bits; numbers too small for a normal one become 0.
    function ieee(x, e, m,    bias, sign, top, mant, power, whole) {
        bias = 2 ^ (e - 1) - 1
        if (x == "nan" || x == "inf") { top = 2 ^ e - 1; mant = x == "nan" ? 2 ^ (m - 1) : 0 }
        else {
            sign = x < 0; if (sign) x = -x
            power = x > 0 ? floor(log(x) / log(2)) : -bias
            if (x > 0 && x < 2 ^ power) power--
            if (x >= 2 ^ (power + 1)) power++
            mant = power > -bias ? floor((x / 2 ^ power - 1) * 2 ^ m + 0.5) : 0
            if (mant >= 2 ^ m) { mant = 0; power++ }
            top = (power > -bias ? power + bias : 0) + sign * 2 ^ e
        }
        whole = int(m / 8)
        bytes(mant % 256 ^ whole, whole)
        bytes(floor(mant / 256 ^ whole) + top * 2 ^ (m - 8 * whole), (1 + e + m) / 8 - whole)
    }
    function put(x) {
        if (type == "f2") ieee(x, 5, 10)
        else if (type == "f4") ieee(x, 8, 23)
        else if (type == "f8") ieee(x, 11, 52)
        else if (type == "i4") bytes(x < 0 ? x + 2 ^ 32 : x, 4)
        else bytes(x, 1)
    }
    BEGIN {
        rank = split(shape, size, ",")
        text = ""
        count = 1
        for (j = 1; j <= rank; j++) { count *= size[j]; text = text size[j] (rank == 1 ? "," : j < rank ? ", " : "") }
        order = type == "u1" ? "|" : "<"
        header = "{\047descr\047: \047" order type "\047, \047fortran_order\047: False, \047shape\047: (" text "), }"
        while ((10 + length(header) + 1) % 64 != 0) header = header " "
        printf "%c", 147; printf "NUMPY"; bytes(1, 1); bytes(0, 1)
        bytes(length(header) + 1, 2); printf "%s\n", header
        for (i = 0; i < count; i++) put('"$4"')
    }' >"$1"
}

# values FILE: the elements of a float32 array, one a line. shape_of FILE: "3, 4". type_of FILE: "<f4".
values() {
    od -An -v -t f4 -w4 -j "$(($(od -An -t u2 -j 8 -N 2 "$1") + 10))" "$1"
}
shape_of() {
    head -c 256 "$1" | tr -d '\0' | sed -n "1s/.*'shape': *(\([^)]*\)).*/\1/p"
}
type_of() {
    head -c 256 "$1" | tr -d '\0' | sed -n "1s/.*'descr': *'\([^']*\)'.*/\1/p"
}

# close_to FILE REFERENCE TOLERANCE: whether a float32 array equals a text file of numbers, up to TOLERANCE times the
# largest reference value.
close_to() {
    values "$1" | paste - "$2" | awk -v tolerance="$3" '
        NF != 2 { bad = 1 }
        { d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d
          a = $2 < 0 ? -$2 : $2; if (a > large) large = a }
        END { if (bad || NR == 0 || !(most <= tolerance * large)) {
                  print "# largest difference " most ", largest value " large; exit 1 } }'
}

# The definition of attention and of its gradients in float64, for one head: attention N D Q K V MASK DOUT, where Q, K,
# V, DOUT are text files of numbers and MASK one of 0 and 1 (or -, DOUT also). Prints Z, or with DOUT: dQ, dK, dV.
attention() {
    gawk -v n="$1" -v d="$2" -v qf="$3" -v kf="$4" -v vf="$5" -v mf="$6" -v gf="$7" '
    function load(file, array,    i) { i = 0; while ((getline line < file) > 0) array[i++] = line + 0 }
    BEGIN {
        load(qf, q); load(kf, k); load(vf, v)
        for (i = 0; i < n; i++) m[i] = 1
        if (mf != "-") load(mf, m)
        back = gf != "-"
        if (back) load(gf, g)
        for (i = 0; i < n; i++) {
            sum = 0; top = -1e300
            for (j = 0; j < n; j++) {
                s = 0
                for (c = 0; c < d; c++) s += q[i * d + c] * k[j * d + c]
                logit[j] = s / sqrt(d)
                if (m[j] && logit[j] > top) top = logit[j]
            }
            for (j = 0; j < n; j++) { p[j] = m[i] && m[j] ? exp(logit[j] - top) : 0; sum += p[j] }
            dot = 0
            for (c = 0; c < d; c++) {
                z[i * d + c] = 0
                for (j = 0; j < n; j++) if (sum > 0) z[i * d + c] += p[j] / sum * v[j * d + c]
                dot += z[i * d + c] * g[i * d + c]
            }
            for (j = 0; back && sum > 0 && j < n; j++) {
                t = 0
                for (c = 0; c < d; c++) {
                    t += g[i * d + c] * v[j * d + c]
                    dv[j * d + c] += p[j] / sum * g[i * d + c]
                }
                ds = p[j] / sum * (t - dot) / sqrt(d)
                for (c = 0; c < d; c++) {
                    dq[i * d + c] += ds * k[j * d + c]
                    dk[j * d + c] += ds * q[i * d + c]
                }
            }
        }
        if (!back) for (i = 0; i < n * d; i++) printf "%.12g\n", z[i]
        for (i = 0; back && i < n * d; i++) printf "%.12g\n", dq[i]
        for (i = 0; back && i < n * d; i++) printf "%.12g\n", dk[i]
        for (i = 0; back && i < n * d; i++) printf "%.12g\n", dv[i]
    }'
}
