/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The planner: chooses the instruction of each allocation function on which the breakpoint goes, and says why. Reads
 * code, attaches nothing, and asks nobody about the machine but for the kernel's version.
 *
 *   entry:  endbr64              skipped: not emulated
 *           test  rdi, rdi       moves nothing, but sets the flags of ...
 *           je    out            ... a candidate; past it only calls of free that free something come by
 *           push  rbp            candidate: chosen for free (entry only, rsp still points to the return address)
 *           sub   rsp, 24        from here on no return probe finds the return address at rsp
 *
 * Only the straight line from the entry is looked at, and it ends where a branch from elsewhere in the function comes
 * in: an instruction behind that would be met twice in a call, or not at all. Branches out of the function's cold
 * part, through jump tables and from other functions are not seen; compilers don't emit those into a prologue.
 */
#include "probe/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "probe/decode.h"
#include "probe/reach.h"
#include "probe/track.h"
#include "util/mem.h"

#define LINE_INSNS_MAX 64	   /* jemalloc 5.3: free has its first branch at the 10th, mimalloc 2: at the 18th */
#define SWEEP_BYTES_MAX (64 << 10) /* jemalloc 5.3: mallocx has 10 KB */
#define SWEEP_BYTES_UNKNOWN 2048   /* where st_size is 0: other functions' branches don't lead here */
#define SLOT_WORDS_MAX 63	   /* six bits of the cookie */

#define HAZARD_STEPPED "single-stepped: about 35x the cost of an emulated hit on virtual machines"
#define HAZARD_THROWS "an exception (std::bad_alloc) cannot pass a return probe: it would end the target"
#define HAZARD_LOOPS "a branch inside the function leads back to the probe: one call may be seen twice"

/* What a function's own branches say about its first instructions. */
struct sweep {
	uint64_t first_target; /* lowest address behind the entry to which a branch leads; UINT64_MAX: none */
	bool to_entry;
};

struct candidate {
	bool found, past_null, stepped, nop5;
	uint64_t vaddr;
	unsigned char slot_words;
	struct track_regs regs;
	char insn[96];
};

const char *insn_kind_name(enum insn_kind k)
{
	static const char *const names[] = {
		[INSN_EMULATED] = "emulated", [INSN_STEPPED] = "stepped", [INSN_NOP5] = "nop5"
	};

	return names[k];
}

int plan_kernel_current(struct plan_kernel *ret)
{
	unsigned int major, minor, patch = 0;
	struct utsname u;

	if (uname(&u) < 0)
		return -errno;
	if (sscanf(u.release, "%u.%u.%u", &major, &minor, &patch) < 2 || major > 0xffff || minor > 0xff)
		return -EINVAL;
	/* Long-term kernels count beyond 255 (4.9.337): all that is asked of them is "at least". */
	ret->version = major << 16 | minor << 8 | (patch > 255 ? 255 : patch);
	return 0;
}

static bool frees_only(enum shape s)
{
	return shape_has_role(s, 'P') && !shape_has_role(s, 'S');
}

static bool shape_needs_return(enum shape s)
{
	return s != SHAPE_WRAP && shape_has_role(s, 'S');
}

static struct sweep sweep_branches(struct decoder *d, const struct elf_func *f)
{
	struct sweep s = { .first_target = UINT64_MAX };
	uint64_t bytes = f->bytes ? f->bytes : SWEEP_BYTES_UNKNOWN;
	uint64_t end = f->vaddr + (bytes < SWEEP_BYTES_MAX ? bytes : SWEEP_BYTES_MAX);

	for (uint64_t at = f->vaddr; at < end;) {
		const cs_insn *insn = decoder_at(d, at);
		uint64_t target = 0;
		enum flow flow = insn ? insn_flow(insn, &target) : FLOW_NEXT;

		at += insn ? insn->size : 1;
		if (flow != FLOW_JCC && flow != FLOW_JMP)
			continue;
		if (target == f->vaddr)
			s.to_entry = true;
		else if (target > f->vaddr && target < s.first_target)
			s.first_target = target;
	}
	return s;
}

static void candidate_take(struct candidate *c, const cs_insn *insn, const struct track *t, uint32_t kernel)
{
	c->found = true;
	c->vaddr = insn->address;
	c->slot_words = (unsigned char)(t->sp_bytes / 8);
	c->nop5 = insn_is_optimised_nop(insn, kernel);
	(void)snprintf(c->insn, sizeof(c->insn), "%.23s%s%.64s", insn->mnemonic, insn->op_str[0] ? " " : "",
		       insn->op_str);
}

/*
 * A return probe wants the return address at rsp. A wrapper wants its caller's rbp, from which the stack is walked; a
 * free takes no stack.
 */
static bool place_serves(const struct track *t, enum shape shape)
{
	if (!t->sp_known || t->sp_bytes < 0 || t->sp_bytes % 8 || t->sp_bytes / 8 > SLOT_WORDS_MAX)
		return false;
	if (shape == SHAPE_WRAP)
		return !t->bp_changed;
	return frees_only(shape) || !t->sp_bytes;
}

/*
 * The first instruction of the straight line that will do; for a free, preferably the first one past its NULL test,
 * so that free(NULL) costs nothing.
 */
static struct candidate walk_line(struct decoder *d, const struct elf_func *f, enum shape shape, uint32_t kernel,
				  uint64_t limit)
{
	struct candidate c = { 0 };
	bool past_null = false;
	uint64_t at = f->vaddr;
	struct track t;

	track_init(&t, shape);
	for (int i = 0; i < LINE_INSNS_MAX && at < limit; i++) {
		const cs_insn *insn = decoder_at(d, at);
		uint64_t target = 0;
		enum flow flow;

		if (!insn)
			break;
		if ((!c.found || past_null) && insn_is_emulated(insn, kernel) && place_serves(&t, shape) &&
		    track_find(&t, &c.regs)) {
			candidate_take(&c, insn, &t, kernel);
			c.past_null = past_null;
			if (past_null || !frees_only(shape))
				break;
		}
		flow = insn_flow(insn, &target);
		if (flow == FLOW_JCC && insn->id == X86_INS_JE && t.null_tested && frees_only(shape) && !past_null)
			past_null = true;
		else if (flow != FLOW_NEXT)
			break;
		at += insn->size;
		track_step(&t, d, insn);
	}
	return c;
}

/* Nothing emulated will do: the first instruction, where all arguments are in place, stepped by the kernel. */
static int entry_candidate(struct decoder *d, const struct elf_func *f, enum shape shape, uint32_t kernel,
			   struct candidate *ret)
{
	const cs_insn *insn = decoder_at(d, f->vaddr);
	struct candidate c = { .stepped = true };
	struct track t;

	if (!insn)
		return -EIO;
	track_init(&t, shape);
	(void)track_find(&t, &c.regs); /* cannot fail: the ABI's registers */
	candidate_take(&c, insn, &t, kernel);
	*ret = c;
	return 0;
}

static void add_hazard(struct plan *p, const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->hazards); i++) {
		if (p->hazards[i][0])
			continue;
		(void)snprintf(p->hazards[i], sizeof(p->hazards[i]), "%s", text);
		return;
	}
}

static bool contains(const char *s, const char *part)
{
	return strstr(s, part) != NULL;
}

/* operator new under its C++ names and under those by which tcmalloc and mimalloc offer it to C. */
static bool is_new(const struct family_func *row)
{
	if (frees_only(row->shape) || shape_has_role(row->shape, 'P'))
		return false;
	return !strcmp(row->family, "c++") || !strncmp(row->symbol, "tc_new", 6) || !strncmp(row->symbol, "mi_new", 6);
}

static bool is_throwing_new(const struct family_func *row)
{
	return is_new(row) && !contains(row->symbol, "nothrow");
}

/* operator new that allocates through malloc only names the site; what frees through free is not probed at all. */
static void settle_shape(struct decoder *d, const struct elf_func *f, struct plan *p)
{
	bool is_free = frees_only(p->func->shape);
	const char *name = NULL;

	p->shape = p->func->shape;
	p->planned = true;
	if (!is_free && !is_new(p->func))
		return;
	if (p->func->layer != LAYER_HEAP) /* what it reaches is of another layer */
		return;
	if (!reach_probed(d, f->vaddr, p->func, &name))
		return;
	if (is_free) {
		p->planned = false;
		(void)snprintf(p->why, sizeof(p->why), "reaches %s, which is %s", name ? name : "another file's free",
			       name && contains(name, "operator") ? "counted there" : "probed");
		return;
	}
	p->shape = SHAPE_WRAP;
	(void)snprintf(p->why, sizeof(p->why),
		       "names the site of %s inside it (no return probe: an exception must pass)",
		       name ? name : "another file's malloc");
}

static const char *place_words(const struct candidate *c, const struct plan *p)
{
	if (c->stepped)
		return "no emulated instruction before the stack or an argument moves: first instruction";
	if (c->past_null)
		return "first emulated instruction past the NULL test";
	return p->insn_delta ? "first emulated instruction that every call passes" : "first instruction, emulated";
}

static void settle_place(const struct elf_func *f, const struct candidate *c, const struct sweep *s, struct plan *p)
{
	char shape_why[sizeof(p->why)];

	p->insn_delta = (uint32_t)(c->vaddr - f->vaddr);
	p->probe_offset = f->file_offset + p->insn_delta;
	memcpy(p->insn, c->insn, sizeof(p->insn));
	p->kind = c->stepped && !c->nop5 ? INSN_STEPPED : c->nop5 ? INSN_NOP5 : INSN_EMULATED;
	p->ptr_reg = c->regs.ptr;
	p->size_reg = c->regs.size;
	p->count_reg = c->regs.count;
	p->slot_words = c->slot_words;
	p->needs_return = shape_needs_return(p->shape);
	p->can_return = !c->slot_words;
	p->may_throw = p->needs_return && is_throwing_new(p->func);
	if (!p->planned)
		return;
	memcpy(shape_why, p->why, sizeof(shape_why));
	if (snprintf(p->why, sizeof(p->why), "%s%s%s", place_words(c, p), shape_why[0] ? "; " : "", shape_why) < 0)
		p->why[0] = '\0';
	if (p->kind == INSN_STEPPED)
		add_hazard(p, HAZARD_STEPPED);
	if (p->may_throw)
		add_hazard(p, HAZARD_THROWS);
	if (s->to_entry)
		add_hazard(p, HAZARD_LOOPS);
}

int plan_code(struct decoder *d, const struct elf_func *f, const struct family_func *row,
	      const struct plan_kernel *kernel, struct plan *ret)
{
	struct sweep s = sweep_branches(d, f);
	struct candidate c;
	int err;

	*ret = (struct plan){
		.func = row, .func_vaddr = f->vaddr, .func_offset = f->file_offset, .func_bytes = f->bytes
	};
	(void)snprintf(ret->symbol, sizeof(ret->symbol), "%s", f->name);
	settle_shape(d, f, ret);
	c = walk_line(d, f, ret->shape, kernel->version, s.first_target);
	if (!c.found) {
		err = entry_candidate(d, f, ret->shape, kernel->version, &c);
		if (err) {
			ret->planned = false;
			(void)snprintf(ret->why, sizeof(ret->why), "its code cannot be read");
			return err;
		}
	}
	settle_place(f, &c, &s, ret);
	return 0;
}

/* --- an ELF file as source of code --- */

static int elf_source_read(const void *ctx, uint64_t vaddr, uint8_t *buf, size_t cap)
{
	return elf_read_code(ctx, vaddr, buf, cap);
}

static const char *elf_source_plt(const void *ctx, uint64_t vaddr)
{
	return elf_plt_target(ctx, vaddr);
}

static const char *elf_source_own(const void *ctx, uint64_t vaddr)
{
	const struct elf_file *e = ctx;

	for (size_t i = 0; i < e->n_funcs; i++)
		if (e->funcs[i].vaddr == vaddr && family_find(e->funcs[i].name))
			return e->funcs[i].name;
	return NULL;
}

static bool elf_source_defines(const void *ctx, const char *name)
{
	return elf_find(ctx, name) != NULL;
}

static struct code_source elf_source(const struct elf_file *e)
{
	return (struct code_source){ e, elf_source_read, elf_source_plt, elf_source_own, elf_source_defines };
}

int plan_function(const struct elf_file *e, const struct elf_func *f, const struct family_func *row,
		  const struct plan_kernel *kernel, struct plan *ret)
{
	struct code_source src = elf_source(e);
	_cleanup_(decoder_close) struct decoder d = { 0 };
	int err = decoder_open(&src, &d);

	return err ? err : plan_code(&d, f, row, kernel, ret);
}

static const struct plan *find_alias(const struct plan *plans, size_t n, uint64_t func_offset)
{
	for (size_t i = 0; i < n; i++)
		if (plans[i].func_offset == func_offset)
			return &plans[i];
	return NULL;
}

static void plan_as_alias(struct plan *p, const struct plan *winner)
{
	p->planned = false;
	(void)snprintf(p->why, sizeof(p->why), "same code as %s", winner->func->site);
	memset(p->hazards, 0, sizeof(p->hazards));
}

/* All functions of the file under one name: versioned symbols may have several. */
static int plan_name(struct decoder *d, const struct elf_file *e, const struct family_func *row,
		     const struct plan_kernel *kernel, struct plan **plans, size_t *n, size_t *cap)
{
	const struct elf_func *f = elf_find(e, row->symbol);

	for (; f && f < e->funcs + e->n_funcs && !strcmp(f->name, row->symbol); f++) {
		const struct plan *winner = find_alias(*plans, *n, f->file_offset);
		struct plan p;
		int err = plan_code(d, f, row, kernel, &p);

		if (err && err != -EIO)
			return err;
		if (winner)
			plan_as_alias(&p, winner);
		*plans = grow_to(*plans, cap, *n + 1, sizeof(**plans));
		(*plans)[(*n)++] = p;
	}
	return 0;
}

int plan_file(const struct elf_file *e, const struct plan_kernel *kernel, struct plan **ret, size_t *ret_n)
{
	struct code_source src = elf_source(e);
	_cleanup_(decoder_close) struct decoder d = { 0 };
	_cleanup_(freep) struct plan *plans = NULL;
	size_t n = 0, cap = 0;
	int err = decoder_open(&src, &d);

	for (size_t i = 0; i < family_funcs_n && !err; i++)
		err = plan_name(&d, e, &family_funcs[i], kernel, &plans, &n, &cap);
	if (err)
		return err;
	*ret = plans;
	*ret_n = n;
	plans = NULL;
	return 0;
}
