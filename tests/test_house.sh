#!/bin/sh
# The house itself: setup does nothing the second time, help names every command, install works.
set -u
. "$(dirname "$0")/tap.sh"
cd "${MRA_ROOT:?MRA_ROOT: expected the checkout}" || exit 1

tap_is() { # tap_is DESCRIPTION GOT EXPECTED
    [ "$2" = "$3" ] || note "got '$2', expected '$3'"
    [ "$2" = "$3" ]
    ok $? "$1"
}
tap_ok() { # tap_ok DESCRIPTION COMMAND...
    description=$1
    shift
    "$@" >/dev/null 2>&1
    ok $? "$description"
}

sh src/setup.sh "$work/config.mk" >"$work/log" 2>&1
tap_is "setup finds everything" "$?" 0
tap_ok "setup installs nothing the second time" sh -c "! grep -q installing '$work/log'"

for goal in reproduce check bench audit book install clean; do
    tap_ok "make help names $goal" sh -c "make --no-print-directory help | grep -q 'make $goal'"
done

make --no-print-directory BUILD="${MRA_OUT%/*}" install DESTDIR="$work/top" PREFIX=/opt/mra >"$work/log" 2>&1
tap_is "make install" "$?" 0
for file in bin/mra lib/libmra.a lib/libmra.so lib/pkgconfig/mra.pc include/mra/mra.h share/man/man1/mra.1 \
    share/man/man1/mra-attend.1; do
    tap_ok "installed $file" test -e "$work/top/opt/mra/$file"
done

# A program that knows nothing but the installed files, linked both ways.
cat >"$work/use.c" <<'C'
#include <mra/mra.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    mra_shape shape = {.batch = 1, .heads = 1, .n = 100, .d = 8};
    mra_options options = mra_options_mra2(2);
    mra_attention *attention;
    mra_error err;
    float *x = calloc(100 * 8, sizeof *x), *z = malloc(100 * 8 * sizeof *z);
    for (int i = 0; i < 100 * 8; i++) x[i] = (float)(i % 8);
    if (mra_attention_create(&attention, shape, &options, &err) != MRA_OK ||
        mra_attention_forward(attention, x, x, x, NULL, z, &err) != MRA_OK) {
        puts(err.message);
        return 2;
    }
    mra_attention_free(attention);
    printf("%.3f\n", z[7]); /* all rows are equal, so attention returns them */
    free(x);
    free(z);
    return 0;
}
C
export PKG_CONFIG_PATH="$work/top/opt/mra/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$work/top"
# shellcheck disable=SC2046  # the flags are words
cc "$work/use.c" -o "$work/shared" $(pkg-config --cflags --libs mra) >"$work/log" 2>&1
tap_is "a program links the shared library" "$?" 0
tap_is "and runs" "$(LD_LIBRARY_PATH=$work/top/opt/mra/lib "$work/shared")" 7.000
# shellcheck disable=SC2046
cc "$work/use.c" -o "$work/static" -Wl,-Bstatic $(pkg-config --cflags --libs mra) -Wl,-Bdynamic \
    $(pkg-config --static --libs-only-other --libs-only-l mra | sed 's/-lmra//') >"$work/log" 2>&1
tap_is "a program links the static library" "$?" 0
tap_is "and runs" "$("$work/static")" 7.000
finish
