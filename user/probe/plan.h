/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a probe of a function goes: the first instruction that the kernel emulates through which every call that
 * matters passes, with the argument registers intact. Pure: code bytes in, a plan out; attaches nothing.
 */
#ifndef TIDEMARK_PROBE_PLAN_H
#define TIDEMARK_PROBE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shapes.h"
#include "target/elf.h"
#include "target/families.h"

enum insn_kind { INSN_EMULATED, INSN_STEPPED, INSN_NOP5 }; /* names: insn_kind_name */

struct plan {
	const struct family_func *func; /* row of the families table */
	enum shape shape;		/* the one to attach: func->shape, or SHAPE_WRAP */
	char symbol[64];
	uint64_t func_vaddr, func_offset, func_bytes; /* offset: in the file; bytes 0: unknown */
	uint64_t probe_offset;			      /* in the file: where the breakpoint goes */
	uint32_t insn_delta;			      /* probe_offset - func_offset */
	char insn[96];				      /* "push r12": disassembly of the probed instruction */
	enum insn_kind kind;
	unsigned char ptr_reg, size_reg, count_reg; /* enum arg_reg at the probed instruction */
	unsigned char slot_words;		    /* words that rsp lies below the return address there */
	bool may_throw;	     /* an exception may leave it: no return probe may be in place then */
	bool needs_return;   /* the shape has a result that is needed */
	bool can_return;     /* slot_words == 0: a return probe placed here finds the return address */
	bool planned;	     /* false: not to be attached, why says it */
	char why[192];	     /* one clause: why here, or why not at all */
	char hazards[3][96]; /* "" = none */
};

const char *insn_kind_name(enum insn_kind k);

/*
 * What this kernel emulates (arch/x86/kernel/uprobes.c): push, nop, jmp, call, jcc always; from 6.18 also the long
 * nops, from 6.19 all that insn_is_nop accepts.
 */
struct plan_kernel {
	uint32_t version; /* major << 16 | minor << 8 | patch (at most 255) */
};

/* The running kernel. 0 or -EINVAL (a release that doesn't start with two numbers). */
int plan_kernel_current(struct plan_kernel *ret);

/*
 * Plans one function. Always fills *ret; ret->planned tells whether it is worth attaching. Returns 0 or -EIO (code
 * unreadable).
 */
int plan_function(const struct elf_file *e, const struct elf_func *f, const struct family_func *row,
		  const struct plan_kernel *kernel, struct plan *ret);

struct decoder;
/* The same over any source of code, with a decoder that the caller opened (probe/decode.h). Same results. */
int plan_code(struct decoder *d, const struct elf_func *f, const struct family_func *row,
	      const struct plan_kernel *kernel, struct plan *ret);

/*
 * Plans all functions of the families table that the file defines. Deduplicated by file offset (aliases: the row that
 * comes first in the families table wins, the others are kept with planned = false and a why that names the winner).
 * Caller frees *ret. A file without any: 0 and *ret_n = 0.
 */
int plan_file(const struct elf_file *e, const struct plan_kernel *kernel, struct plan **ret, size_t *ret_n);

#endif
