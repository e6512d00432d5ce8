# The suite's commands. `make help` lists them; README.md says which two a newcomer needs.
#
# How the build is organised: build/config.mk, written by src/setup.sh, says which libraries are there
# (installing them first where it may). Every src/**/*.c becomes one object per variant (release, asan);
# libmra holds the part that other programs link; everything else goes into an internal archive that the
# program, the experiments and the tests link.

PROFILE ?= laptop
PREFIX  ?= /usr/local
THREADS ?= 2
INPUTS  ?= paper/inputs
MARCH   ?= native
BUILD   ?= build
VARIANT ?= release
VERSION := 0.1.0

CC  ?= cc
CXX ?= c++
quiet_goals := help clean
goals := $(or $(MAKECMDGOALS),help)
# Every core compiles, unless -j says otherwise. Several goals on one line (clean all) keep their order.
ifeq ($(MAKELEVEL)$(words $(goals)),01)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
endif
ifneq ($(filter-out $(quiet_goals),$(goals)),)
include $(BUILD)/config.mk
endif

.PHONY: help setup all reproduce check check-quick bench audit book report install clean lint
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:

help:
	@echo 'make reproduce [PROFILE=smoke|laptop|reduced|paper]  every figure and table, then build/report/index.html'
	@echo 'make check                             all tests (TAP), also under the sanitizers'
	@echo 'make bench                             speed, as ratios measured side by side'
	@echo 'make audit                             the claims of the paper, evaluated'
	@echo 'make book                              the annotated source as a book: build/book/index.html'
	@echo 'make install [PREFIX=/usr/local] [DESTDIR=]  the program mra and libmra'
	@echo 'make clean                             remove build/ (recorded results stay)'

$(BUILD)/config.mk: src/setup.sh
	@mkdir -p $(BUILD)
	@sh src/setup.sh $@

# ---- Compiling ----------------------------------------------------------------------------------------

warnings := -Wall -Wextra -Wpedantic -Werror
# No value-changing optimisation beyond these: errno and traps are never looked at, and a fused multiply-add is
# the same on every thread. -ffast-math stays off: infinities and NaN have to be seen.
optimise := -O3 -march=$(MARCH) $(VECTOR_WIDTH) -fno-math-errno -fno-trapping-math
common   := -std=c11 -D_GNU_SOURCE -Isrc -Ikernels -g -fPIC -fvisibility=hidden -fopenmp -fopenmp-simd $(warnings) \
            $(CONFIG_CFLAGS) -DMRA_VERSION='"$(VERSION)"'
variant_release := $(optimise)
variant_asan    := -O1 -march=$(MARCH) -fno-omit-frame-pointer -fsanitize=address,undefined \
                   -fno-sanitize-recover=undefined
out      := $(BUILD)/$(VARIANT)
cflags    = $(common) $(variant_$(VARIANT)) $(CFLAGS)
ldflags   = $(variant_$(VARIANT)) -fopenmp $(LDFLAGS)

sources  := $(sort $(shell find src -name '*.c'))
simt_c   := $(sort $(wildcard kernels/simt/*.c))
kernels  := $(sort $(wildcard kernels/*.cu))
simt_cu  := $(kernels) $(sort $(wildcard kernels/simt/*.cu))
# With nvcc the same kernels also become device code, in the variant release.
cuda_cu  := $(if $(NVCC),$(if $(filter release,$(VARIANT)),$(kernels) $(sort $(wildcard kernels/cuda/*.cu))))
library  := src/core/error.c src/core/arena.c src/core/random.c src/core/parallel.c \
            src/tensor/gemm.c $(filter src/mra/%.c,$(sources))
objects  := $(sources:%.c=$(out)/obj/%.o)
cli      := $(filter $(out)/obj/src/cli/%,$(objects))
inner    := $(filter-out $(cli),$(objects)) $(simt_c:%.c=$(out)/obj/%.o) $(simt_cu:%.cu=$(out)/simt/%.o) \
            $(cuda_cu:%.cu=$(out)/cuda/%.o)
libmra_objects := $(library:%.c=$(out)/obj/%.o)

tests_c    := $(sort $(shell find tests -name 'test_*.c'))
tests_sh   := $(sort $(shell find tests -name 'test_*.sh'))
test_bins  := $(tests_c:tests/%.c=$(out)/tests/%)
drivers    := $(sort $(filter-out experiments/common%.c,$(wildcard experiments/*.c)))
shared_exp := $(patsubst %.c,$(out)/obj/%.o,$(wildcard experiments/common*.c))
driver_bins := $(drivers:experiments/%.c=$(out)/experiments/%)

all: $(out)/bin/mra $(driver_bins) $(out)/lib/libmra.a $(out)/lib/libmra.so.0
	@[ $(VARIANT) != release ] || ln -sfn release/bin $(BUILD)/bin
setup: $(BUILD)/config.mk

$(out)/obj/%.o: %.c $(BUILD)/config.mk
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(cflags) -MMD -MP -c $< -o $@
# The kernels for the host runner (kernels/simt): the same sources, as C++. In the variant release every access of
# a kernel is looked at (kernels/simt/watch.c), in asan the sanitizers do that.
watch_release := -fsanitize=thread --param tsan-instrument-func-entry-exit=0
watch_asan    := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
simt_flags = -x c++ -std=c++17 -O1 -g -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -ffp-contract=off \
             -fno-math-errno -Isrc -Ikernels $(warnings) -Wno-unused-function -Wno-unknown-pragmas \
             $(watch_$(VARIANT)) $(CXXFLAGS)
$(out)/simt/%.o: %.cu $(BUILD)/config.mk
	@mkdir -p $(@D)
	@echo "  SIMT $<"
	@$(CXX) $(simt_flags) -MMD -MP -c $< -o $@
$(out)/obj/kernels/simt/watch.o: cflags += $(if $(filter release,$(VARIANT)),-DMRA_SIMT_WATCH)
# For GPUs of compute capability 8.0 and 9.0, and PTX for later ones. A machine without a GPU compiles them too; the
# device says that it is absent there. A compiler cache that CC names serves nvcc too.
cuda_flags = -std=c++17 -O3 -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 \
             -gencode arch=compute_90,code=compute_90 -Xcompiler -fPIC,-fvisibility=hidden,-Wall \
             -Isrc -Ikernels $(NVCCFLAGS)
$(out)/cuda/%.o: %.cu $(BUILD)/config.mk
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	@$(if $(findstring ccache,$(firstword $(CC))),$(firstword $(CC)) )$(NVCC) $(cuda_flags) -MMD -MP -c $< -o $@
ifneq ($(cuda_cu),)
$(out)/obj/src/tensor/device.o: cflags += -DMRA_HAVE_CUDA=1
ALL_LIBS += $(CUDA_LIBS)
endif
-include $(shell find $(out)/obj $(out)/simt $(out)/cuda -name '*.d' 2>/dev/null)

# The commit is compiled into one file, which is rebuilt when the commit changes.
commit := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || echo +)
ifneq ($(filter-out $(quiet_goals),$(goals)),)
ifneq ($(commit),$(shell cat $(BUILD)/commit 2>/dev/null))
$(shell mkdir -p $(BUILD); echo '$(commit)' > $(BUILD)/commit)
endif
endif
$(out)/obj/src/core/record.o: $(BUILD)/commit
$(out)/obj/src/core/record.o: cflags += -DMRA_COMMIT='"$(commit)"'

$(out)/lib/libinner.a: $(inner)
	@mkdir -p $(@D); rm -f $@
	@ar rcs $@ $(inner)
$(out)/lib/libmra.a: $(libmra_objects)
	@mkdir -p $(@D); rm -f $@
	@ar rcs $@ $(libmra_objects)
$(out)/lib/libmra.so.0: $(libmra_objects)
	@mkdir -p $(@D)
	@$(CC) -shared -Wl,-soname,libmra.so.0 -Wl,--no-undefined -Wl,--exclude-libs,ALL $(ldflags) -o $@ \
	    $(libmra_objects) $(LIBMRA_LIBS) -lm
	@ln -sf libmra.so.0 $(out)/lib/libmra.so

$(out)/bin/mra: $(cli) $(out)/lib/libinner.a
	@mkdir -p $(@D)
	@$(CC) $(ldflags) -o $@ $(cli) $(out)/lib/libinner.a $(ALL_LIBS) -lm
$(out)/experiments/%: $(out)/obj/experiments/%.o $(shared_exp) $(out)/lib/libinner.a
	@mkdir -p $(@D)
	@$(CC) $(ldflags) -o $@ $< $(shared_exp) $(out)/lib/libinner.a $(ALL_LIBS) -lm
$(out)/tests/%: $(out)/obj/tests/%.o $(out)/lib/libinner.a
	@mkdir -p $(@D)
	@$(CC) $(ldflags) -o $@ $< $(filter $(out)/simt/%,$^) $(out)/lib/libinner.a -lcmocka $(ALL_LIBS) -lm

# Tests of the runner have kernels of their own.
$(out)/tests/kernels/test_simt: $(out)/simt/tests/kernels/planted.o

# ---- Testing ------------------------------------------------------------------------------------------

test_env = MRA_BIN=$(abspath $(out)/bin/mra) MRA_OUT=$(abspath $(out)) CMOCKA_MESSAGE_OUTPUT=TAP \
           MRA_ROOT=$(CURDIR) OMP_WAIT_POLICY=passive MRA_METHOD_TABLE=$(abspath $(out)/methods.txt) \
           MRA_PARITY_TABLE=$(abspath $(out)/operations.txt)

check: lint
	@$(MAKE) --no-print-directory VARIANT=release tap
	@$(MAKE) --no-print-directory VARIANT=asan tap-asan
.PHONY: tap tap-asan
tap: all $(test_bins)
	@rm -f $(out)/methods.txt $(out)/operations.txt
	@$(test_env) prove --merge --timer $(PROVE_FLAGS) $(test_bins) $(tests_sh)
	@sh tests/attention/table.sh $(out)/methods.txt $(out)/operations.txt
# The sanitizers see every C test; the shell tests run the same code again and are left to the release build.
tap-asan: $(out)/bin/mra $(test_bins)
	@$(test_env) ASAN_OPTIONS=detect_leaks=1 MRA_SANITIZED=1 OMP_NUM_THREADS=2 \
	    prove --merge --timer $(PROVE_FLAGS) $(test_bins)
# One test by name: make check-one T=tests/core/test_random
.PHONY: check-one
check-one: $(out)/bin/mra $(out)/$(T)
	@$(test_env) $(out)/$(T)

lint:
	@sh tests/lint.sh

# ---- Results ------------------------------------------------------------------------------------------

reproduce: all
	@sh experiments/reproduce.sh --profile $(PROFILE) --threads $(THREADS) --inputs $(INPUTS) \
	    $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(LIST),--list) $(if $(YES),--yes)
report: all
	@sh paper/report.sh $(PROFILE)
book: all
	@sh paper/book.sh
bench: all
	@sh experiments/bench.sh --threads $(THREADS)
audit: all
	@sh paper/audit.sh $(PROFILE)

# ---- Installing ---------------------------------------------------------------------------------------

install: all
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig \
	    $(DESTDIR)$(PREFIX)/include/mra/core $(DESTDIR)$(PREFIX)/share/man/man1
	@install -m 755 $(out)/bin/mra $(DESTDIR)$(PREFIX)/bin/mra
	@$(out)/bin/mra --manual > $(DESTDIR)$(PREFIX)/share/man/man1/mra.1
	@for page in $$(sed -n 's/^\\fBmra\\-\(.*\)\\fR(1)$$/\1/p' $(DESTDIR)$(PREFIX)/share/man/man1/mra.1); do \
	    $(out)/bin/mra --manual $$page > $(DESTDIR)$(PREFIX)/share/man/man1/mra-$$page.1 || exit 1; done
	@install -m 644 $(out)/lib/libmra.a $(DESTDIR)$(PREFIX)/lib/libmra.a
	@install -m 755 $(out)/lib/libmra.so.0 $(DESTDIR)$(PREFIX)/lib/libmra.so.0
	@ln -sf libmra.so.0 $(DESTDIR)$(PREFIX)/lib/libmra.so
	@install -m 644 src/mra/mra.h $(DESTDIR)$(PREFIX)/include/mra/mra.h
	@install -m 644 src/core/error.h $(DESTDIR)$(PREFIX)/include/mra/core/error.h
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBMRA_LIBS)|' \
	    src/mra/mra.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/mra.pc
	@echo "installed mra and libmra under $(DESTDIR)$(PREFIX)"

clean:
	@rm -rf $(BUILD)
