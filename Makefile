# SPDX-License-Identifier: GPL-2.0-or-later
# Builds everything from one place. `make` needs no root; `make V=1` shows the commands; B= moves the output.
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
CLANG ?= clang
LLVM_STRIP ?= $(or $(shell command -v llvm-strip),$(lastword $(sort $(wildcard /usr/bin/llvm-strip-*))),llvm-strip)
BPFTOOL ?= $(or $(lastword $(sort $(wildcard /usr/lib/linux-tools/*/bpftool))),$(shell PATH="$$PATH:/usr/sbin:/sbin" command -v bpftool),bpftool)
B ?= build
export BPFTOOL CLANG CC B
PREFIX ?= /usr/local
VERSION := 0.1.0
B ?= build
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
msg = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(patsubst $(B)/%,%,$(2))';)

WARN := -Wall -Wextra -Werror -Wshadow -Wmissing-prototypes -Wstrict-prototypes
INC := -Iuser -Iinclude -I$(B)/gen
CFLAGS ?= -O2 -g
DEFS := -std=gnu11 -D_GNU_SOURCE -DTIDEMARK_VERSION='"$(VERSION)"'
DEPS := -MMD -MP
LIBS := -Wl,--as-needed -lbpf -lelf -ldw -lcapstone -lncursesw -ltinfo -ljson-c -lxxhash -liberty -llzma -lm -lpthread
SAN := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
BPF_CFLAGS := -target bpf -O2 -g -mcpu=v3 -D__TARGET_ARCH_x86 -Iinclude -Ivmlinux -Wall -Wextra -Werror \
	-Wno-unused-parameter -Wno-missing-declarations

LIB_SRC := $(filter-out user/main.c user/alloc.c,$(wildcard user/*.c user/*/*.c))
UNIT_SRC := $(wildcard tests/unit/test_*.c)
HOST_SRC := $(wildcard tests/host/test_*.c)
GOLDEN_SRC := $(wildcard tests/golden/test_*.c)
FIXTURES := $(wildcard tests/unit/*_fixture.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
TARGET_SRC := $(wildcard tests/e2e/targets/*.c tests/e2e/targets/*.cpp)
BENCH_SRC := $(wildcard tests/bench/*.c tests/bench/*.cpp)

SKEL := $(B)/gen/tidemark.skel.h
LIB_obj := $(B)/libtidemark.a
LIB_asan := $(B)/asan/libtidemark.a
LIB_fuzz := $(B)/fuzz/libtidemark.a
FIXTURE_OBJ := $(FIXTURES:%.c=$(B)/asan/%.o)
UNIT := $(UNIT_SRC:tests/unit/%.c=$(B)/unit/%)
HOST := $(HOST_SRC:tests/host/%.c=$(B)/host/%)
GOLDEN := $(GOLDEN_SRC:tests/golden/%.c=$(B)/golden/%)
FUZZ := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/fuzzers/%)
BENCH := $(addprefix $(B)/bench/,$(basename $(notdir $(BENCH_SRC))))
LOAD := $(patsubst tests/load/%.c,$(B)/load/%,$(wildcard tests/load/*.c))
# tests/e2e/targets/lib*.c become shared objects, everything else there programs.
SHARED := $(patsubst tests/e2e/targets/%.c,$(B)/e2e/%.so,$(wildcard tests/e2e/targets/lib*.c))
TARGETS := $(addprefix $(B)/e2e/,$(filter-out $(basename $(notdir $(SHARED))),$(basename $(notdir $(TARGET_SRC)))))

.PHONY: all run demo test check check-fuzz bench lint golden install clean tests checkables
all: $(B)/tidemark

# --- kernel side ---
$(B)/bpf/tidemark.bpf.tmp.o: bpf/tidemark.bpf.c Makefile
	$(call msg,BPF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) $(DEPS) -c $< -o $@
	$(Q)$(LLVM_STRIP) -g $@

$(B)/bpf/tidemark.bpf.o: $(B)/bpf/tidemark.bpf.tmp.o
	$(call msg,GEN-OBJ,$@)
	$(Q)$(BPFTOOL) gen object $@ $<

$(SKEL): $(B)/bpf/tidemark.bpf.o
	$(call msg,GEN-SKEL,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(BPFTOOL) gen skeleton $< name tidemark_bpf > $@
	$(Q)scripts/insns-of-object $<

# --- user side, once per variant: obj (what is installed), asan (tests), fuzz ---
# Only the files that include the skeleton wait for it; -MMD takes over from the second build on.
SKEL_USERS := $(shell grep -ls 'tidemark\.skel\.h' $(LIB_SRC) user/main.c $(UNIT_SRC) $(HOST_SRC))
$(foreach v,obj asan fuzz,$(SKEL_USERS:%.c=$(B)/$(v)/%.o)): | $(SKEL)


# $(1) variant, $(2) compiler, $(3) flags in place of CFLAGS
define variant
$(B)/$(1)/%.o: %.c Makefile
	$$(call msg,CC,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(2) $(DEFS) $(INC) $(3) $(WARN) $(DEPS) $$(EXTRA_CFLAGS) -c $$< -o $$@

$(LIB_$(1)): $(LIB_SRC:%.c=$(B)/$(1)/%.o)
	$$(call msg,AR,$$@)
	$(Q)rm -f $$@ && $(AR) rcs $$@ $$^
endef
$(eval $(call variant,obj,$(CC),$(CFLAGS)))
$(eval $(call variant,asan,$(CC),$(SAN) -Wno-maybe-uninitialized))
$(eval $(call variant,fuzz,$(CLANG),$(SAN) -fsanitize=fuzzer-no-link))
$(B)/asan/tests/host/%.o: EXTRA_CFLAGS += -Ibpf -Itests/host
$(B)/asan/tests/unit/%.o $(B)/asan/tests/golden/%.o: EXTRA_CFLAGS += -Itests/unit

# An allocator of its own, within the executable: see user/alloc.c.
$(B)/tidemark: $(B)/obj/user/main.o $(B)/obj/user/alloc.o $(LIB_obj)
	$(call msg,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -l:libjemalloc.a $(LIBS) -o $@

# --- tests ---
define test_programs
$(B)/$(1)/%: $(B)/asan/tests/$(1)/%.o $(FIXTURE_OBJ) $(LIB_asan)
	$$(call msg,LINK,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CC) $(SAN) $$^ -lcmocka $(LIBS) -o $$@
endef
$(foreach d,unit host golden,$(eval $(call test_programs,$(d))))

$(B)/fuzzers/%: $(B)/fuzz/tests/fuzz/%.o $(LIB_fuzz)
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(SAN) -fsanitize=fuzzer $^ $(LIBS) -o $@

# Programs that are watched: optimised as services are, with frame pointers, no sanitizers, allocations not optimised away.
TFLAGS := -O2 -g -fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-builtin -Wall -Wextra -Werror
TLIBS := -lpthread -ldl
define watched
$(B)/$(1)/lib%.so: $(2)/lib%.c Makefile
	$$(call msg,CC,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(TFLAGS) $(DEPS) -MT $$@ -MF $$@.d -shared -fPIC $$< $$(LDFLAGS) $(TLIBS) -o $$@

$(B)/$(1)/%: $(2)/%.c Makefile
	$$(call msg,CC,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(TFLAGS) $(DEPS) -MT $$@ -MF $$@.d $$(EXTRA_CFLAGS) $$< $$(LDFLAGS) $(TLIBS) -o $$@

$(B)/$(1)/%: $(2)/%.cpp Makefile
	$$(call msg,CXX,$$@)
	$(Q)mkdir -p $$(@D)
	$(Q)$(CXX) $(TFLAGS) $(DEPS) -MT $$@ -MF $$@.d $$(EXTRA_CFLAGS) $$< $$(LDFLAGS) $(TLIBS) -o $$@
endef
$(eval $(call watched,e2e,tests/e2e/targets))
$(eval $(call watched,bench,tests/bench))
$(eval $(call watched,load,tests/load))
$(eval $(call watched,oracle,tests/oracle))
# Flags of single test programs, e.g. `build/e2e/static: LDFLAGS += -static`.
-include tests/flags.mk

LIGHT := $(UNIT) $(HOST) $(GOLDEN)
tests: $(LIGHT)
checkables: all tests $(TARGETS) $(SHARED) $(BENCH) $(LOAD)

test: tests
	$(Q)scripts/run-tests $(LIGHT)

golden: $(GOLDEN)
	$(Q)TIDEMARK_ACCEPT=1 scripts/run-tests $(GOLDEN)

check:
	$(Q)scripts/setup all
	$(Q)scripts/check-all

check-fuzz: $(FUZZ)
	$(Q)FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) scripts/check-fuzz

lint:
	$(Q)scripts/run-tests scripts/check-format scripts/check-lint

bench:
	$(Q)scripts/setup bench
	$(Q)$(MAKE) all $(BENCH)
	$(Q)tests/bench/run.py $(ARGS)

# --- the two commands of a newcomer; a second make, because setup may bring the tools that this one looked for ---
run:
	$(Q)scripts/setup build
	$(Q)$(MAKE) all
	$(Q)$(B)/tidemark top $(ARGS)

demo:
	$(Q)scripts/setup build
	$(Q)$(MAKE) all
	$(Q)scripts/demo $(B)/tidemark $(ARGS)

install: all
	install -D -m 755 $(B)/tidemark $(DESTDIR)$(PREFIX)/bin/tidemark

clean:
	$(Q)rm -rf $(B)

# Lists for scripts: make -s print-UNIT
print-%:
	@printf '%s\n' $($*)

.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
