/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds CPython's tables of allocators and what stands in them.
 *
 * The tables have no symbols in stripped files, their place changed with the versions (statics until 3.11, members of _PyRuntime since 3.12), and their values are
 * no mark: copies of them lie in memory too. But the functions of the interface always have symbols, because extension modules call them, and their code reads
 * the tables:
 *
 *	PyObject_Malloc:	mov  rdi, [_PyObject.ctx]	PyObject_Calloc:	mov  rdi, [_PyObject.ctx]
 *				jmp  [_PyObject.malloc]					jmp  [_PyObject.calloc]
 *
 * So: of all addresses that the code of the four functions of a domain reads, the table's is the one for which each of them reads its own field, that is the
 * address plus 8, 16, 24 and 32. One in a thousand such addresses would do by chance for one function; for four of them there is one or none.
 *
 * Where profiles told the compiler what the tables hold (Debian's builds) the code compares the pointer with that function's address and has its code inlined:
 *
 *	PyObject_Malloc:	mov  rax, [_PyObject.malloc]
 *				cmp  rax, _PyObject_Malloc
 *				jne  slow
 *
 * The call is seen at PyObject_Malloc then. Nested calls count once, so both may be probed.
 */
#include "probe/pyalloc.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "probe/decode.h"
#include "target/dynsym.h"
#include "target/proc.h"
#include "target/python.h"
#include "util/mem.h"

#define CODE_MAX \
	1024 /* bytes of PyObject_Free of Debian's 3.14, which holds all of pymalloc's: 740. The table is read at its begin. */
#define READS_MAX 64 /* addresses that one function reads */
#define REGS 16
#define CHAIN_MAX 4 /* hooks on hooks */

static const char *const api_names[PY_DOMAIN_NR][PY_OPERATION_NR] = {
	[PY_RAW] = { "PyMem_RawMalloc", "PyMem_RawCalloc", "PyMem_RawRealloc", "PyMem_RawFree" },
	[PY_MEM] = { "PyMem_Malloc", "PyMem_Calloc", "PyMem_Realloc", "PyMem_Free" },
	[PY_OBJ] = { "PyObject_Malloc", "PyObject_Calloc", "PyObject_Realloc", "PyObject_Free" },
};

const char *py_allocator_name(enum py_allocator a)
{
	static const char *const names[] = {
#define X(id, name) [PY_ALLOCATOR_##id] = name,
		for_each_py_allocator(X)
#undef X
	};

	return names[a];
}

static bool read_memory(uint32_t pid, uint64_t addr, void *buf, size_t n)
{
	struct iovec to = { .iov_base = buf, .iov_len = n };
	struct iovec from = { .iov_base = (void *)(uintptr_t)addr,
			      .iov_len = n }; /* NOLINT(performance-no-int-to-ptr): not ours */

	return process_vm_readv((pid_t)pid, &to, 1, &from, 1, 0) == (ssize_t)n;
}

/* --- what a function reads --- */

struct reader {
	uint32_t pid;
	const struct dynsym *f;
	uint64_t bias;
	uint64_t known[REGS]; /* constants in registers, run-time addresses; 0: not known */
	uint64_t reads[READS_MAX],
		names[READS_MAX]; /* addresses that the code reads; constants that it has in its hands */
	size_t n_reads, n_names;
};

static int source_read(const void *ctx, uint64_t vaddr, uint8_t *buf, size_t cap)
{
	/* The last instruction of a segment may have fewer bytes behind it. */
	for (size_t n = cap; n; n--)
		if (dynsym_read(ctx, vaddr, buf, n))
			return (int)n;
	return -EIO;
}

/* Rows: enum of a register's whole and lower half, which clears the upper one. -1: none that is followed. */
static int reg_index(unsigned int reg)
{
	static const unsigned short names[REGS][2] = {
		{ X86_REG_RAX, X86_REG_EAX },  { X86_REG_RBX, X86_REG_EBX },  { X86_REG_RCX, X86_REG_ECX },
		{ X86_REG_RDX, X86_REG_EDX },  { X86_REG_RSI, X86_REG_ESI },  { X86_REG_RDI, X86_REG_EDI },
		{ X86_REG_RBP, X86_REG_EBP },  { X86_REG_RSP, X86_REG_ESP },  { X86_REG_R8, X86_REG_R8D },
		{ X86_REG_R9, X86_REG_R9D },   { X86_REG_R10, X86_REG_R10D }, { X86_REG_R11, X86_REG_R11D },
		{ X86_REG_R12, X86_REG_R12D }, { X86_REG_R13, X86_REG_R13D }, { X86_REG_R14, X86_REG_R14D },
		{ X86_REG_R15, X86_REG_R15D },
	};

	for (int i = 0; i < REGS; i++)
		if (names[i][0] == reg || names[i][1] == reg)
			return i;
	return -1;
}

static void add(uint64_t *list, size_t *n, uint64_t value)
{
	for (size_t i = 0; i < *n; i++)
		if (list[i] == value)
			return;
	if (*n < READS_MAX)
		list[(*n)++] = value;
}

/* The address of a memory operand if it is constant, else 0. */
static uint64_t operand_address(const struct reader *r, const cs_insn *insn, const cs_x86_op *op)
{
	const x86_op_mem *m = &op->mem;

	if (op->type != X86_OP_MEM || m->index != X86_REG_INVALID || m->segment != X86_REG_INVALID)
		return 0;
	if (m->base == X86_REG_RIP)
		return insn->address + insn->size + (uint64_t)m->disp + r->bias;
	if (m->base == X86_REG_INVALID)
		return (uint64_t)m->disp; /* code at fixed addresses */
	int base = reg_index(m->base);
	return base >= 0 && r->known[base] ? r->known[base] + (uint64_t)m->disp : 0;
}

/* What the first operand holds behind the instruction. */
static uint64_t value_of(struct reader *r, const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	uint64_t addr, value = 0;

	if (x->op_count != 2)
		return 0;
	if (insn->id == X86_INS_LEA)
		return operand_address(r, insn, &x->operands[1]);
	if (insn->id != X86_INS_MOV && insn->id != X86_INS_MOVABS)
		return 0;
	if (x->operands[1].type == X86_OP_IMM)
		return (uint64_t)x->operands[1].imm;
	if (x->operands[1].type == X86_OP_REG)
		return reg_index(x->operands[1].reg) >= 0 ? r->known[reg_index(x->operands[1].reg)] : 0;
	addr = operand_address(r, insn, &x->operands[1]);
	return addr && read_memory(r->pid, addr, &value, sizeof(value)) ? value
									: 0; /* most often the address of _PyRuntime */
}

static void reader_step(struct reader *r, const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	uint64_t target, value = value_of(r, insn);
	enum flow flow = insn_flow(insn, &target);

	for (uint8_t i = 0; i < x->op_count; i++) {
		uint64_t addr = insn->id == X86_INS_LEA ? 0 : operand_address(r, insn, &x->operands[i]);
		if (addr)
			add(r->reads, &r->n_reads, addr);
		if (x->operands[i].type == X86_OP_IMM && flow == FLOW_NEXT)
			add(r->names, &r->n_names, (uint64_t)x->operands[i].imm);
	}
	if (insn->id == X86_INS_LEA && value)
		add(r->names, &r->n_names, value);
	if (flow == FLOW_CALL || flow == FLOW_CALL_INDIRECT)
		memset(r->known, 0, sizeof(r->known));
	int to = x->op_count && x->operands[0].type == X86_OP_REG ? reg_index(x->operands[0].reg) : -1;
	if (to >= 0 && insn->id != X86_INS_CMP && insn->id != X86_INS_TEST && insn->id != X86_INS_PUSH)
		r->known[to] = value;
}

/*
 * All instructions in a row, whatever the branches do: a value that is taken along into code that never sees it gives an address too
 * many, which fits no table.
 */
static int read_function(struct reader *r, struct decoder *d, const Elf64_Sym *sym)
{
	uint64_t bytes = sym->st_size && sym->st_size < CODE_MAX ? sym->st_size : CODE_MAX;

	r->n_reads = r->n_names = 0;
	memset(r->known, 0, sizeof(r->known));
	for (uint64_t at = sym->st_value; at < sym->st_value + bytes;) {
		const cs_insn *insn = decoder_at(d, at);
		at += insn ? insn->size : 1;
		if (insn)
			reader_step(r, insn);
	}
	return r->n_reads ? 0 : -ENOENT;
}

/* --- one file --- */

struct candidate {
	struct reader r;
	struct decoder d;
	Elf64_Sym sym[PY_DOMAIN_NR][PY_OPERATION_NR];
};

static bool is_read(const struct reader *r, uint64_t addr)
{
	for (size_t i = 0; i < r->n_reads; i++)
		if (r->reads[i] == addr)
			return true;
	return false;
}

static uint64_t field_of(uint64_t table, enum py_operation op)
{
	return table + 8 + 8 * (uint64_t)op;
}

/* The table of a domain: begins with those that the first function allows and keeps those that all others allow as well. */
static int find_table(struct candidate *c, enum py_domain domain, uint64_t raw, uint64_t *ret)
{
	uint64_t tables[READS_MAX];
	size_t n = 0;

	for (int op = 0; op < PY_OPERATION_NR; op++) {
		int err = read_function(&c->r, &c->d, &c->sym[domain][op]);
		if (err)
			return err;
		for (size_t i = 0; !op && i < c->r.n_reads; i++)
			tables[n++] = c->r.reads[i] - field_of(0, PY_MALLOC);
		size_t kept = 0;
		for (size_t i = 0; i < n; i++)
			if (is_read(&c->r, field_of(tables[i], (enum py_operation)op)))
				tables[kept++] = tables[i];
		n = kept;
	}
	*ret = n ? tables[n - 1] : 0;
	/* What is inlined of pymalloc's functions reads the raw domain's table for large blocks. */
	if (n == 2 && raw && (tables[0] == raw || tables[1] == raw))
		*ret = tables[tables[0] == raw];
	else if (n != 1)
		return -ENOENT;
	return 0;
}

/* Does the function's own code name the function that stands in its table? */
static bool names_target(struct candidate *c, const Elf64_Sym *sym, uint64_t target)
{
	if (read_function(&c->r, &c->d, sym))
		return false;
	for (size_t i = 0; i < c->r.n_names; i++)
		if (c->r.names[i] == target)
			return true;
	return false;
}

static bool find_symbols(struct candidate *c, bool thorough)
{
	for (int i = 0; i < PY_DOMAIN_NR; i++)
		for (int k = 0; k < PY_OPERATION_NR; k++) {
			const char *name = api_names[i][k];
			if (!(thorough ? dynsym_find_any(c->r.f, name, STT_FUNC, &c->sym[i][k])
				       : dynsym_find(c->r.f, name, &c->sym[i][k])))
				return false;
		}
	return true;
}

static bool is_code(const struct mappings *maps, uint64_t addr)
{
	const struct mapping *m = mappings_find(maps, addr);

	return m && m->exec;
}

static bool is_filled(const struct mappings *maps, const struct py_table *t)
{
	for (int i = 0; i < PY_OPERATION_NR; i++)
		if (!is_code(maps, t->func[i]))
			return false;
	return true;
}

static bool same_funcs(const struct py_table *a, const struct py_table *b)
{
	return !memcmp(a->func, b->func, sizeof(a->func));
}

/* --- which allocator --- */

/*
 * Follows hooks: their context is the table behind them (tracemalloc: allocators.mem), or, of the debug hooks, the letter of the domain and, 8 bytes
 * on, that table (debug_alloc_api_t of obmalloc.c). *t becomes the last one.
 */
static enum py_allocator follow_hooks(uint32_t pid, const struct mappings *maps, struct py_table *t)
{
	for (int i = 0; i < CHAIN_MAX && t->ctx; i++) {
		struct {
			uint64_t letter;
			struct py_table table;
		} at;
		struct py_table next;
		if (!read_memory(pid, t->ctx, &at, sizeof(at)))
			return PY_ALLOCATOR_UNKNOWN;
		memcpy(&next, &at, sizeof(next));
		if (strchr("rmo", (int)(at.letter & 0xff)) && at.letter & 0xff && is_filled(maps, &at.table))
			return PY_ALLOCATOR_DEBUG;
		if (!is_filled(maps, &next))
			return PY_ALLOCATOR_UNKNOWN;
		*t = next;
	}
	return t->ctx ? PY_ALLOCATOR_UNKNOWN : PY_ALLOCATOR_NR;
}

/*
 * By how the tables relate: pymalloc serves mem and obj with the same functions, mimalloc with different ones (Include/internal/pycore_pymem_init.h),
 * malloc all three.
 */
static enum py_allocator classify(uint32_t pid, const struct mappings *maps, const struct py_alloc *a)
{
	struct py_table raw = a->table[PY_RAW], mem = a->table[PY_MEM], obj = a->table[PY_OBJ];
	enum py_allocator hook = follow_hooks(pid, maps, &obj);

	if (hook != PY_ALLOCATOR_NR)
		return hook;
	if (follow_hooks(pid, maps, &raw) != PY_ALLOCATOR_NR || follow_hooks(pid, maps, &mem) != PY_ALLOCATOR_NR)
		return PY_ALLOCATOR_UNKNOWN;
	const struct mapping *own = mappings_find(maps, a->api[PY_OBJ][PY_MALLOC]),
			     *is = mappings_find(maps, obj.func[PY_MALLOC]);
	if (!own || !is || own->inode != is->inode || own->dev != is->dev)
		return PY_ALLOCATOR_UNKNOWN;
	return same_funcs(&obj, &raw)	? PY_ALLOCATOR_MALLOC
	       : same_funcs(&obj, &mem) ? PY_ALLOCATOR_PYMALLOC
					: PY_ALLOCATOR_MIMALLOC;
}

/* --- which functions --- */

static void add_func(struct py_alloc *a, uint64_t addr, const struct family_func *row)
{
	for (size_t i = 0; i < a->n_funcs; i++)
		if (a->funcs[i].addr == addr)
			return;
	if (a->n_funcs < ARRAY_SIZE(a->funcs))
		a->funcs[a->n_funcs++] = (struct py_alloc_func){ addr, row };
}

static unsigned int domains_of(const struct py_alloc *a, enum py_operation op, uint64_t addr)
{
	unsigned int set = 0;

	for (int i = 0; i < PY_DOMAIN_NR; i++)
		set |= (a->table[i].func[op] == addr ? 1u : 0u) << i;
	return set;
}

static void list_funcs(struct py_alloc *a)
{
	a->n_funcs = 0;
	for (int i = 0; i < PY_DOMAIN_NR; i++)
		for (int k = 0; k < PY_OPERATION_NR; k++) {
			enum py_operation op = (enum py_operation)k;
			uint64_t addr = a->table[i].func[k];
			add_func(a, addr, python_table_func(domains_of(a, op, addr), op));
			if (a->is_promoted[i][k])
				add_func(a, a->api[i][k], python_api_func((enum py_domain)i, op));
		}
}

static int read_tables(uint32_t pid, const struct mappings *maps, struct py_alloc *a)
{
	for (int i = 0; i < PY_DOMAIN_NR; i++)
		if (!read_memory(pid, a->at[i], &a->table[i], sizeof(a->table[i])) || !is_filled(maps, &a->table[i]))
			return -EAGAIN;
	a->kind = classify(pid, maps, a);
	list_funcs(a);
	return 0;
}

static int find_tables(struct candidate *c, const struct mappings *maps, struct py_alloc *a)
{
	for (int i = 0; i < PY_DOMAIN_NR; i++) {
		int err = find_table(c, (enum py_domain)i, a->at[PY_RAW], &a->at[i]);
		if (err)
			return err;
		for (int k = 0; k < PY_OPERATION_NR; k++)
			a->api[i][k] = c->sym[i][k].st_value + c->r.bias;
	}
	int err = read_tables(c->r.pid, maps, a);
	for (int i = 0; i < PY_DOMAIN_NR && !err; i++)
		for (int k = 0; k < PY_OPERATION_NR; k++) {
			a->is_promoted[i][k] = names_target(c, &c->sym[i][k], a->table[i].func[k]);
			a->promoted |= a->is_promoted[i][k];
		}
	if (!err)
		list_funcs(a);
	return err;
}

static int try_file(uint32_t pid, const struct mappings *maps, const struct mapping *m, struct py_alloc *ret)
{
	_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
	struct dynsym f;
	struct candidate c = { .r = { .pid = pid, .f = &f } };
	struct code_source src = { .ctx = &f, .read = source_read };
	Elf64_Shdr section;

	if (fd < 0 || !dynsym_open(fd, &f) || !dynsym_bias(&f, m, &c.r.bias))
		return -ENOENT;
	/* Tables of all symbols are read through only of what is a CPython. */
	if (!find_symbols(&c, false) &&
	    !((python_is_named(m->path) || dynsym_section(&f, ".PyRuntime", &section)) && find_symbols(&c, true)))
		return -ENOENT;
	int err = decoder_open(&src, &c.d);
	if (err)
		return err;
	_cleanup_(freep) struct py_alloc *a = xcalloc(1, sizeof(*a));
	err = find_tables(&c, maps, a);
	decoder_close(&c.d);
	if (!err)
		*ret = *a;
	return err;
}

int pyalloc_find(uint32_t pid, const struct mappings *maps, struct py_alloc *ret)
{
	int result = -ENOENT;

	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		if (!m->exec || !m->inode || mappings_is_repeated(maps, i))
			continue;
		int err = try_file(pid, maps, m, ret);
		if (!err)
			return 0;
		result = err == -EAGAIN ? err : result;
	}
	return result;
}

int pyalloc_refresh(uint32_t pid, const struct mappings *maps, struct py_alloc *a)
{
	_cleanup_(freep) struct py_alloc *now = xcalloc(1, sizeof(*now));

	*now = *a;
	int err = read_tables(pid, maps, now);
	if (err)
		return err;
	bool changed = memcmp(now->table, a->table, sizeof(a->table)) != 0;
	*a = *now;
	return changed;
}
