#!/bin/sh
# Finds what building, testing and drawing need; installs what is missing where it may; writes config.mk.
#
# usage: sh src/setup.sh build/config.mk
#
# On Debian (or a descendant) and as root, or with a sudo that asks no password, missing packages are installed.
# Otherwise the one command that installs them is printed and the status is 2. A second run finds everything and
# does nothing. What is optional is reported, never an error: LIBXSMM, MPI, nvcc, and for the book a clang that makes WebAssembly
# (the page with the sliders) and Chromium (its test).
set -eu
config=${1:?usage: setup.sh CONFIG.MK}
log=$(dirname "$config")/setup.log

# package:what it is looked for by (a command, a pkg-config module, a header or a file)
required='
gcc:command:cc
g++:command:c++
make:command:make
pkg-config:command:pkg-config
perl:command:prove
gawk:command:gawk
libopenblas-dev:pkg:openblas
libgsl-dev:pkg:gsl
libinih-dev:pkg:inih
libjansson-dev:pkg:jansson
libarchive-dev:pkg:libarchive
libpcre2-dev:pkg:libpcre2-8
libjpeg62-turbo-dev:pkg:libjpeg
zlib1g-dev:pkg:zlib
libmd-dev:header:sha2.h
libcmocka-dev:pkg:cmocka
gnuplot-nox:command:gnuplot
pandoc:command:pandoc
'
wanted='
libxsmm-dev:pkg:libxsmm
libopenmpi-dev:pkg:ompi-c
openmpi-bin:command:mpirun
cppcheck:command:cppcheck
shellcheck:command:shellcheck
clang:command:clang
lld:command:wasm-ld
wasi-libc:file:/usr/include/wasm32-wasi/stdlib.h
libclang-rt-dev-wasm32:file:/usr/lib/llvm-*/lib/clang/*/lib/wasi/*
chromium:command:chromium
'

have() { # have KIND NAME
    case $1 in
    command) command -v "$2" >/dev/null 2>&1 ;;
    pkg) command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "$2" ;;
    file) for file in $2; do [ ! -e "$file" ] || return 0; done; return 1 ;;
    header) printf '#include <stdint.h>\n#include <stddef.h>\n#include <sys/types.h>\n#include <%s>\n' "$2" |
        ${CC:-cc} -E - >/dev/null 2>&1 ;;
    esac
}
missing() { # missing LIST: the packages of LIST that are not there
    echo "$1" | while IFS=: read -r package kind name; do
        [ -n "$package" ] || continue
        have "$kind" "$name" || printf '%s ' "$package"
    done
}

needed=$(missing "$required")
extra=$(missing "$wanted")
if [ -n "$needed$extra" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        [ -z "$needed" ] || {
            echo "setup: missing: $needed(names of Debian 12 packages); install their like and run make again" >&2
            exit 2
        }
    else
        as=
        [ "$(id -u)" = 0 ] || as='sudo -n'
        if [ -z "$as" ] || sudo -n true 2>/dev/null; then
            echo "setup: installing $needed$extra"
            $as apt-get update -qq || true
            # shellcheck disable=SC2086  # the lists are words
            if ! $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                $needed $extra >"$log" 2>&1; then
                # Once more without what is only wanted: an optional package must not stop the rest.
                # shellcheck disable=SC2086
                [ -z "$needed" ] || $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
                    --no-install-recommends $needed >"$log" 2>&1 || {
                    echo "setup: apt-get failed; see $log" >&2
                    exit 2
                }
            fi
        elif [ -n "$needed" ]; then
            echo "setup: missing packages; run this, then make again:" >&2
            echo "    sudo apt-get install --no-install-recommends $needed$extra" >&2
            exit 2
        fi
    fi
    needed=$(missing "$required")
    [ -z "$needed" ] || {
        echo "setup: still missing after installing: $needed" >&2
        exit 2
    }
fi

pkgs='openblas gsl inih jansson libarchive libpcre2-8 libjpeg zlib'
# shellcheck disable=SC2086
{
    cflags="$(pkg-config --cflags openblas gsl inih jansson libarchive libpcre2-8 libjpeg zlib)"
    # GSL on OpenBLAS's cblas: leave out -lgslcblas.
    libs="$(pkg-config --libs $pkgs | sed 's/-lgslcblas//') -lmd"
    blas="$(pkg-config --libs openblas)"
    xsmm=
    if pkg-config --exists libxsmm && [ "$(uname -m)" = x86_64 ]; then
        cflags="$cflags -DMRA_HAVE_LIBXSMM=1"
        # LIBXSMM's own fallbacks to a BLAS are never taken (mra_small_gemm asks for generated code only).
        xsmm="$(pkg-config --libs-only-L libxsmm) -lxsmm -lxsmmnoblas -ldl -lrt -lpthread"
        echo "setup: LIBXSMM $(pkg-config --modversion libxsmm): small products are generated for this processor" >&2
    else
        echo "setup: LIBXSMM not found: small products run on OpenBLAS (slower)" >&2
    fi
    cuda_libs=
    if command -v nvcc >/dev/null 2>&1; then
        nvcc=$(command -v nvcc)
        cuda=$(dirname "$(dirname "$(readlink -f "$nvcc")")")/lib64
        if [ -e "$cuda/libcublasLt.so" ]; then
            cuda_libs="-L$cuda -Wl,-rpath,$cuda -lcudart_static -lrt -ldl -lpthread -lstdc++"
            echo "setup: CUDA $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'): kernels are" \
                "compiled for GPUs of compute capability 8.0, 9.0 and later" >&2
        else
            nvcc=
            echo "setup: nvcc without cuBLASLt: no code for GPUs" >&2
        fi
    else
        nvcc=
        echo "setup: nvcc not found: no code for GPUs; the kernels are compiled for the host alone (tests)" >&2
    fi
    mpi=
    if pkg-config --exists ompi-c; then
        cflags="$cflags -DMRA_HAVE_MPI=1 $(pkg-config --cflags ompi-c)"
        # Only what trains needs it: tests and drivers that do not are linked without.
        mpi="-Wl,--push-state,--as-needed $(pkg-config --libs ompi-c) -Wl,--pop-state"
        echo "setup: Open MPI $(pkg-config --modversion ompi-c): mpirun -n N build/bin/mra train works" >&2
    else
        echo "setup: MPI not found: mra train runs in one process (libopenmpi-dev, openmpi-bin)" >&2
    fi
    width=
    if echo | ${CC:-cc} -march=native -mprefer-vector-width=512 -dM -E - 2>/dev/null | grep -q __AVX512F__; then
        width=-mprefer-vector-width=512
    fi
    echo "# Written by src/setup.sh; make clean removes it."
    echo "CONFIG_CFLAGS := $cflags"
    echo "VECTOR_WIDTH := $width"
    echo "LIBMRA_LIBS := $xsmm $blas"
    echo "ALL_LIBS := $xsmm $libs $mpi"
    echo "NVCC := $nvcc"
    echo "CUDA_LIBS := $cuda_libs"
} >"$config.tmp"
mv "$config.tmp" "$config"
