#!/bin/sh
# Compiles src/mra to WebAssembly for the page with the sliders, and lays out the heads that it shows.
#
# usage: sh paper/explorer/build.sh OUT         (part of make book)
#
# Writes OUT/explorer-data.js: the module and the trained heads as base64, so that the page needs no server (a
# browser refuses to fetch a file from a page that is a file). Status 3, with one line, where clang, wasm-ld or
# wasi-libc is missing; the page then says so itself.
set -eu
cd "$(dirname "$0")/../.."
out=${1:?usage: build.sh OUT}
missing=
command -v clang >/dev/null 2>&1 || missing="$missing clang"
command -v wasm-ld >/dev/null 2>&1 || missing="$missing lld"
[ -e /usr/include/wasm32-wasi/stdlib.h ] || missing="$missing wasi-libc"
if [ -z "$missing" ]; then
    runtime=$(clang --target=wasm32-wasi -print-libgcc-file-name 2>/dev/null) || runtime=
    [ -z "$runtime" ] || [ -e "$runtime" ] || missing="$missing libclang-rt-dev-wasm32"
fi
mkdir -p "$out"
[ -z "$missing" ] || {
    echo 'const explorerHeads = [];' >"$out/explorer-data.js"
    echo "explorer: not built: missing:$missing (Debian packages)" >&2
    exit 3
}
module=$(mktemp "$out/explorer.XXXXXX")
trap 'rm -f "$module" "$out/explorer-data.js.tmp"' EXIT
# shellcheck disable=SC2046  # names without blanks
clang --target=wasm32-wasi -mexec-model=reactor -std=c11 -D_GNU_SOURCE -O3 -msimd128 -fno-math-errno -fno-trapping-math \
    -Wall -Wextra -Werror -Wno-unknown-pragmas -Isrc -Iexperiments -Ipaper/explorer/standin \
    -Wl,--strip-all -Wl,-z,stack-size=1048576 -o "$module" \
    paper/explorer/explorer.c paper/explorer/standin/cblas.c experiments/common_dense.c \
    src/core/arena.c src/core/error.c src/core/parallel.c src/io/half.c src/tensor/gemm.c $(ls src/mra/*.c)
head_of() { # head_of SET HEAD NAME: halves of one head of example 0 (header of 128 bytes, 512 x 32 halves a head)
    for array in q k v; do
        dd if="paper/inputs/$1/example0-$array.npy" bs=128 skip=$((1 + $2 * 256)) count=256 2>/dev/null
    done | base64 -w0 | sed "s|^|{name: \"$3\", n: 512, d: 32, halves: \"|;s|\$|\"},|"
    echo
}
{
    echo '// Made by paper/explorer/build.sh from src/mra and paper/inputs.'
    printf 'const explorerModule = "%s";\n' "$(base64 -w0 "$module")"
    echo 'const explorerHeads = ['
    head_of text-512 0 'film review, layer 1, head 1'
    head_of text-512 3 'film review, layer 2, head 2'
    head_of listops-512 0 'ListOps, layer 1, head 1'
    head_of listops-512 3 'ListOps, layer 2, head 2'
    echo '];'
} >"$out/explorer-data.js.tmp"
mv "$out/explorer-data.js.tmp" "$out/explorer-data.js"
