# SPDX-License-Identifier: GPL-2.0-or-later
# Flags and rules of single test programs, beside the general ones in the Makefile.
E2E := $(B)/e2e

$(E2E)/shapes_static $(E2E)/cxx_static: LDFLAGS += -static
$(E2E)/cxx $(E2E)/cxx_static: EXTRA_CFLAGS += -std=gnu++17
$(E2E)/jumps: LDFLAGS += -L$(E2E) -lmockalloc -Wl,-rpath,'$$ORIGIN'
$(E2E)/jumps: $(E2E)/libmockalloc.so

# Without libc, in 64 and in 32 bits: needs the assembler and the linker only.
TARGETS += $(E2E)/loop64 $(E2E)/loop32
$(E2E)/loop64: ASFLAGS := --64
$(E2E)/loop64: LDMODE := elf_x86_64
$(E2E)/loop32: ASFLAGS := --32
$(E2E)/loop32: LDMODE := elf_i386
$(E2E)/loop64 $(E2E)/loop32: $(E2E)/%: tests/e2e/targets/%.S tests/flags.mk
	$(call msg,AS,$@)
	$(Q)mkdir -p $(@D)
	$(Q)as $(ASFLAGS) $< -o $@.o && ld -m $(LDMODE) -static $@.o -o $@

$(B)/bench/plain $(B)/bench/empty $(B)/bench/progtime $(B)/bench/memleak: LDFLAGS += -lbpf
$(B)/bench/memleak: | $(B)/bench/memleak.bpf.o
$(B)/bench/memleak.bpf.o: tests/bench/bpf/memleak.bpf.c Makefile
	$(call msg,BPF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) $(DEPS) -c $< -o $@

# The second opinion on stacks, and a program that records hits of its own to try it on.
ORACLE := $(B)/oracle/oracle $(B)/oracle/selftest
TARGETS += $(ORACLE)
$(ORACLE): EXTRA_CFLAGS += -iquote include
$(B)/oracle/oracle: LDFLAGS += -ldw -lelf

# As distributions build: no frame pointers, tail calls, builtins.
UNFRAMED := -fomit-frame-pointer -foptimize-sibling-calls -fbuiltin
$(B)/oracle/selftest $(E2E)/stacks_cpp $(E2E)/stacks_golden: EXTRA_CFLAGS += $(UNFRAMED)
$(B)/oracle/selftest $(E2E)/stacks_cpp: EXTRA_CFLAGS += -std=gnu++17

# Carries its library inside.
$(E2E)/libstacks_golden.so: TFLAGS += $(UNFRAMED)
$(E2E)/stacks_golden: EXTRA_CFLAGS += -Wa,-I$(E2E)
$(E2E)/stacks_golden: $(E2E)/libstacks_golden.so

# Survival: the target once more with its libc inside, and the program that compares.
$(E2E)/survive_static: tests/e2e/targets/survive.c Makefile
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(TFLAGS) $< -static $(TLIBS) -o $@
$(E2E)/drive_survival: tests/drive/survival.c $(LIB_obj) | $(SKEL)
	$(call msg,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(DEFS) $(INC) $(CFLAGS) $(WARN) $(DEPS) -MT $@ -MF $@.d $< $(LIB_obj) $(LDFLAGS) $(LIBS) -o $@
TARGETS += $(E2E)/survive_static $(E2E)/drive_survival
