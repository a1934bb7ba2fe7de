/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Call shapes: what a probe has to read of an allocation function, and the attach cookie that tells
 * it so. There is one program per kind of probe, not per function; all that differs stands here.
 *
 * Row: constant suffix, name, roles of the C arguments 0..3. Roles: A alignment or ignored, N count,
 * S size, P old pointer (freed or resized), O out-parameter, '-' no argument. CTX_: a context comes first, as in PyMemAllocatorEx.
 */
#ifndef TIDEMARK_SHAPES_H
#define TIDEMARK_SHAPES_H

#define for_each_shape(X) \
	X(SIZE_TO_PTR, "size->ptr", "S---") \
	X(N_SIZE_TO_PTR, "n*size->ptr", "NS--") \
	X(PTR_SIZE_TO_PTR, "ptr+size->ptr", "PS--") \
	X(PTR_N_SIZE_TO_PTR, "ptr+n*size->ptr", "PNS-") \
	X(ALIGN_SIZE_TO_PTR, "align+size->ptr", "AS--") \
	X(OUT_ALIGN_SIZE_TO_INT, "out+align+size->int", "OAS-") \
	X(PTR_TO_VOID, "ptr->void", "P---") \
	X(PTR_SIZE_TO_VOID, "ptr+size->void", "PA--") \
	X(CTX_SIZE_TO_PTR, "ctx+size->ptr", "AS--") \
	X(CTX_N_SIZE_TO_PTR, "ctx+n*size->ptr", "ANS-") \
	X(CTX_PTR_SIZE_TO_PTR, "ctx+ptr+size->ptr", "APS-") \
	X(CTX_PTR_TO_VOID, "ctx+ptr->void", "AP--") \
	X(WRAP, "wrapper", "S---") \
	X(CODE_FREED, "code object->void", "----")

enum shape {
#define X(id, name, roles) SHAPE_##id,
	for_each_shape(X)
#undef X
		SHAPE_NR
};

/* What a probe does with a call, once the cookie says which registers hold its arguments: where they stood does not matter then. */
static inline enum shape shape_plain(enum shape s)
{
	return s == SHAPE_CTX_SIZE_TO_PTR	? SHAPE_SIZE_TO_PTR
	       : s == SHAPE_CTX_N_SIZE_TO_PTR	? SHAPE_N_SIZE_TO_PTR
	       : s == SHAPE_CTX_PTR_SIZE_TO_PTR ? SHAPE_PTR_SIZE_TO_PTR
	       : s == SHAPE_CTX_PTR_TO_VOID	? SHAPE_PTR_TO_VOID
						: s;
}

/*
 * Argument registers as a probe finds them: x86-64 order of the System V ABI, plus the
 * scratch registers into which compilers move an argument before the first push.
 */
enum arg_reg {
	REG_DI,
	REG_SI,
	REG_DX,
	REG_CX,
	REG_R8,
	REG_R9,
	REG_AX,
	REG_BX,
	REG_BP,
	REG_R12,
	REG_R13,
	REG_R14,
	REG_R15,
	REG_NONE = 15
};

/*
 * Attach cookie, 64 bits:
 *   0-3   layer
 *   4-9   shape
 *   10-13 register of the pointer (P or O)      REG_NONE: the shape has none
 *   14-17 register of the size (S)
 *   18-21 register of the count (N)             REG_NONE: none, or already multiplied into the size
 *   22-27 bytes / 8 by which rsp lies below the return address' slot at the probed instruction
 *   28    the function may throw: a return probe under it must not be in place then
 *   29    the link is for one process (enum probe_scope)
 *   30    the file is a library: calls from its own code are the allocator's
 *   31    the function may call other probed ones of its layer, or takes an old block
 *   32-47 site: index into user space's table of probed functions; 0 is never used
 *   48-63 wrappers: length of the function from the probed instruction on, in bytes (0xffff: that or more)
 *         others: how far the file's code reaches before (48-55) and behind (56-63) the probed instruction, in units of
 *         NEAR_UNIT rounded up (255: that or more). Calls from there are the allocator's own.
 */
#define NEAR_UNIT 65536

struct call_cookie {
	unsigned char layer, shape, ptr_reg, size_reg, count_reg, slot_words, may_throw, scope, library, may_nest;
	unsigned short site, extent;
};

static inline unsigned long long cookie_pack(const struct call_cookie *c)
{
	return (unsigned long long)(c->layer & 15) | (unsigned long long)(c->shape & 63) << 4 |
	       (unsigned long long)(c->ptr_reg & 15) << 10 | (unsigned long long)(c->size_reg & 15) << 14 |
	       (unsigned long long)(c->count_reg & 15) << 18 | (unsigned long long)(c->slot_words & 63) << 22 |
	       (unsigned long long)(c->may_throw & 1) << 28 | (unsigned long long)(c->scope & 1) << 29 |
	       (unsigned long long)(c->library & 1) << 30 | (unsigned long long)(c->may_nest & 1) << 31 |
	       (unsigned long long)c->site << 32 | (unsigned long long)c->extent << 48;
}

static inline struct call_cookie cookie_unpack(unsigned long long v)
{
	struct call_cookie c = {
		.layer = v & 15,
		.shape = v >> 4 & 63,
		.ptr_reg = v >> 10 & 15,
		.size_reg = v >> 14 & 15,
		.count_reg = v >> 18 & 15,
		.slot_words = v >> 22 & 63,
		.may_throw = v >> 28 & 1,
		.scope = v >> 29 & 1,
		.library = v >> 30 & 1,
		.may_nest = v >> 31 & 1,
		.site = v >> 32 & 0xffff,
		.extent = v >> 48,
	};
	return c;
}

#endif
