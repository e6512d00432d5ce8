#!/bin/sh
# When the system refuses: a full disk, a folder that may not be written, a folder that is not there. One line, status 2,
# nothing half-written.
. "$(dirname "$0")/../tap.sh"

npy q.npy f4 256,16 'r(i, 1)'
npy k.npy f4 256,16 'r(i, 2)'
npy g.npy f4 256,16 'r(i, 3)'

attend() {
    "$mra" attend --method exact --q q.npy --k k.npy --v q.npy --out "$1"
}
grad() {
    "$mra" grad --method exact --q q.npy --k k.npy --v q.npy --dout g.npy --dq "$1/dq.npy" --dk "$1/dk.npy" --dv "$1/dv.npy"
}
# The limit on the size of files is 8 blocks (of 512 or 1024 bytes); the arrays have 16 KiB.
limited() (
    trap '' XFSZ
    ulimit -f 8
    "$@"
)

refuses 'a file that cannot grow' 'z\.npy.*([Tt]oo large|Input.output)' limited attend z.npy
refuses 'gradients that cannot grow' '([Tt]oo large|Input.output)' limited grad .
echo precious >kept.npy
refuses 'what was there stays' '([Tt]oo large|Input.output)' limited attend kept.npy
refuses 'a folder that is not there' 'nowhere/z\.npy.*No such' attend nowhere/z.npy
mkdir folder
refuses 'a folder in place of the output' 'folder' attend folder
refuses 'an empty name' '--out' attend ''
refuses 'a name that is too long' '--out' attend "$(awk 'BEGIN { while (i++ < 2000) printf "x" }')"

# A real full disk, where this user may mount one.
mkdir full
trap 'umount "$work/here/full" 2>/dev/null; rm -rf "$work"' EXIT
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=24k tmpfs full 2>/dev/null; then
    refuses 'a full disk' 'full/.*(No space|Input.output)' grad full
    run attend full/z.npy
    ok "$status" 'one array fits'
    refuses 'and stays whole when the next does not fit' 'full/y\.npy.*(No space|Input.output)' attend full/y.npy
    umount full
else
    skip 'a full disk' 'no permission to mount'
fi

# Somebody who may not write here; root may write anywhere, so it becomes nobody if it can.
mkdir closed
chmod 555 closed
if [ "$(id -u)" != 0 ]; then
    as=
elif command -v setpriv >/dev/null && chmod 755 "$work" "$work/here" && chmod 644 ./*.npy &&
    setpriv --reuid=65534 --regid=65534 --clear-groups "$mra" --version >/dev/null 2>&1; then
    as='setpriv --reuid=65534 --regid=65534 --clear-groups'
else
    as=none
fi
if [ "$as" = none ]; then
    skip 'a folder that may not be written' 'this is root, and cannot become somebody else'
else
    # shellcheck disable=SC2086  # $as is words
    refuses 'a folder that may not be written' 'closed/z\.npy.*[Pp]ermission' \
        $as "$mra" attend --method exact --q q.npy --k k.npy --v q.npy --out closed/z.npy
    chmod 000 q.npy
    # shellcheck disable=SC2086
    refuses_unread() {
        run $as "$mra" attend --method exact --q q.npy --k k.npy --v k.npy --out z.npy
        [ "$status" -eq 2 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -q 'q\.npy.*[Pp]ermission' "$work/stderr"
    }
    refuses_unread
    ok $? 'an input that may not be read'
    chmod 644 q.npy
fi

# Results on stdout that do not arrive.
if [ -e /dev/full ]; then
    for command in methods 'methods mra2' --help 'audit --help' \
        'audit --q q.npy --k k.npy --methods mra2 --budgets 1 --repeats 1 --quiet' \
        'bench attention --n 64 --heads 1 --d 8 --blocks 1 --repeats 1 --quiet'; do
        # shellcheck disable=SC2086  # $command is words
        "$mra" $command >/dev/full 2>"$work/stderr"
        [ $? -eq 2 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -q 'standard output.*No space' "$work/stderr"
        ok $? "mra $command >/dev/full is told"
    done
else
    skip 'standard output on a full disk' 'no /dev/full'
fi

# A device is written to, not replaced.
passes 'the output may be /dev/null' attend /dev/null
[ -c /dev/null ]
ok $? 'which stays a device'
if [ -e /dev/full ]; then
    refuses 'the output may not be /dev/full' '/dev/full' attend /dev/full
    [ -c /dev/full ]
    ok $? 'which stays a device'
fi
finish
