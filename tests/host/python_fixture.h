/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPython's memory, made by hand: runtime, thread-specific data, thread state, frames, code objects, as each version lays them
 * out (probe/pyoffsets). Included after books.h and probe/pyoffsets.h.
 */
#ifndef TIDEMARK_HOST_PYTHON_FIXTURE_H
#define TIDEMARK_HOST_PYTHON_FIXTURE_H

#define RUNTIME 0x5f0000000000ull
#define TCB 0x5f0000100000ull
#define TCB_BYTES 0x8000ull
#define STATE 0x5f0000200000ull
#define OTHER_STATE (STATE + 0x400)
#define INTERP 0x5f0000300000ull
#define CHUNK 0x5f0000400000ull
#define CHUNK_BYTES 0x8000ull
#define CODES 0x5f0000500000ull
#define CODES_BYTES 0x40000ull
#define CODE_AT(n) (CODES + (uint64_t)(n)*0x200)
#define TABLE_AT(n) (CODES + CODES_BYTES - 0x40 * ((uint64_t)(n) + 1))
#define NOT_MAPPED 0x5f0000f00000ull
#define PYTHON_INDEX 3
#define KEY 2

struct fixture {
	struct process *p;
	struct thread *th;
	struct proc *pr;
	struct thread_state *t;
	struct python_info py;
	uint64_t at; /* where the next frame goes */
};

static struct fixture f;

static inline void poke_bytes(uint64_t addr, const void *from, size_t n)
{
	void *at = host_at(f.p->mm, addr, n);

	assert(at);
	memcpy(at, from, n);
}

static inline void poke32(uint64_t addr, uint32_t v)
{
	poke_bytes(addr, &v, sizeof(v));
}

static inline void python_use(uint32_t minor)
{
	uint32_t index = PYTHON_INDEX;

	f.py = py_rows[minor - 8].process.info;
	f.py.runtime = RUNTIME;
	*(struct python_info *)bpf_map_lookup_elem(&pythons, &index) = f.py;
	f.pr->python = index;
	f.t->python_key = 0;
}

/* After a change of f.py. */
static inline void python_change(void)
{
	uint32_t index = PYTHON_INDEX;

	*(struct python_info *)bpf_map_lookup_elem(&pythons, &index) = f.py;
}

static inline uint64_t glibc_slot(uint32_t key)
{
	return TCB + GLIBC_TSD_OFFSET + key * 16 + 8;
}

static inline void key_set(int made, uint32_t key)
{
	poke32(RUNTIME + f.py.tss_key, (uint32_t)made);
	poke32(RUNTIME + f.py.tss_key + 4, key);
	f.t->python_key = 0;
}

/* A code object that tells of itself what its number says. */
static inline uint64_t code_make(uint64_t code, uint32_t number, uint64_t table)
{
	const uint64_t size = 20;
	uint64_t id = code + f.py.code_id;

	for (uint32_t i = 0; i < PYTHON_CODE_ID_BYTES / 8; i++)
		poke(f.th, id + i * 8, (uint64_t)(number + 1) * 1000 + i);
	poke(f.th, id + PYTHON_VERSION_WORD * 8, (uint64_t)(number + 1) << 32 | 7);
	poke(f.th, id + 10 * 8, table);
	poke_bytes(table + PYTHON_TABLE_HEAD, &size, sizeof(size));
	for (uint32_t i = 0; i < size; i++)
		poke_bytes(table + 32 + i, &(char){ (char)(number + i) }, 1);
	return code;
}

static inline uint64_t code_new(uint32_t n)
{
	return code_make(CODE_AT(n), n, TABLE_AT(n));
}

static inline void state_frame(uint64_t state, uint64_t frame)
{
	uint64_t at = state + f.py.tstate_frame;

	if (f.py.has_cframe) {
		poke(f.th, at, state + 0x200);
		at = state + 0x200 + f.py.cframe_frame;
	}
	poke(f.th, at, frame);
}

/* unit -1: not begun. */
static inline void frame_unit(uint64_t frame, uint64_t code, int64_t unit)
{
	if (f.py.has_lasti)
		poke32(frame + f.py.frame_instr, (uint32_t)(unit < 0 ? -1 : unit << f.py.lasti_shift));
	else
		poke(f.th, frame + f.py.frame_instr, code + f.py.code_start + (uint64_t)unit * 2);
}

static inline void frame_make(uint64_t frame, uint64_t back, uint64_t code, int64_t unit, uint8_t owner)
{
	poke(f.th, frame + f.py.frame_back, back);
	poke(f.th, frame + f.py.frame_code, code);
	frame_unit(frame, code, unit);
	if (f.py.entry != PYTHON_ENTRY_ALL)
		poke_bytes(frame + f.py.frame_owner, &owner, 1);
}

/* A frame further out than all before it; is_entry: the first of its eval loop. Frames are made innermost first. */
struct chain {
	uint64_t last; /* frame whose `back` is to be set */
	uint64_t want[400];
	size_t n;
};

static inline uint64_t frame_next(struct chain *c, uint64_t code, int64_t unit, uint8_t owner)
{
	uint64_t frame = f.at;

	f.at += 176;
	frame_make(frame, 0, code, unit, owner);
	if (c->last)
		poke(f.th, c->last + f.py.frame_back, frame);
	else
		state_frame(STATE, frame);
	return c->last = frame;
}

static inline void chain_add(struct chain *c, uint64_t code, int64_t unit, bool is_entry)
{
	bool flag = f.py.entry == PYTHON_ENTRY_FLAG && is_entry;
	uint64_t packed = python_frame_pack(code, unit < 0		   ? 0
						  : unit < PYTHON_UNIT_MAX ? (uint32_t)unit + 1
									   : PYTHON_UNIT_MAX);

	frame_next(c, code, unit, flag);
	if (is_entry && f.py.entry == PYTHON_ENTRY_SHIM)
		frame_next(c, 0, 0, f.py.shim_owner);
	if (is_entry || f.py.entry == PYTHON_ENTRY_ALL)
		packed |= PYTHON_FRAME_ENTRY;
	c->want[c->n++] = packed;
}

static inline struct chain chain_begin(void)
{
	f.at = CHUNK + 64;
	return (struct chain){ 0 };
}

static inline int python_setup(void **state)
{
	(void)state;
	world_init(true);
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_HEAP | PROC_FOLLOW);
	f.pr = proc_of(f.p);
	f.t = thread_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
	f.th->task.thread.fsbase = TCB;
	host_map_region(f.p->mm, RUNTIME, 4096);
	host_map_region(f.p->mm, TCB, TCB_BYTES);
	host_map_region(f.p->mm, STATE, 4096);
	host_map_region(f.p->mm, INTERP, 0x8000);
	host_map_region(f.p->mm, CHUNK, CHUNK_BYTES);
	host_map_region(f.p->mm, CODES, CODES_BYTES);
	return 0;
}

/* As seen by a hit: the window holds something of the stack. */
static inline uint64_t chain_take(void)
{
	be(f.th);
	(void)trampoline_of(f.t, f.pr->id.image);
	window_open(f.t, f.th->sp);
	return stack_python(f.pr, f.t);
}

static inline void version_begin(uint32_t minor)
{
	python_use(minor);
	key_set(1, KEY);
	poke(f.th, glibc_slot(KEY), STATE);
}

static inline const struct python_chain *chain_of(uint64_t id)
{
	const struct python_chain *c = bpf_map_lookup_elem(&python_chains, &id);

	assert_non_null(c);
	return c;
}

#define EXPECT_CHAIN(id, how, c) expect_chain(__LINE__, (id), (how), (c)->want, (c)->n)

static inline void expect_chain(int line, uint64_t id, uint16_t flags, const uint64_t *want, size_t n)
{
	const struct python_chain *c = chain_of(id);

	for (size_t i = 0; i < n && i < c->n; i++)
		if (c->frame[i] != want[i])
			fail_msg("line %d, 3.%u: frame %zu: %llx, expected %lx", line, f.py.minor, i, c->frame[i],
				 want[i]);
	if (c->n != n || c->flags != flags)
		fail_msg("line %d, 3.%u: %u frames, flags %u, expected %zu, %u", line, f.py.minor, c->n, c->flags, n,
			 flags);
	assert_int_equal(c->python, PYTHON_INDEX);
}

static inline struct stack_stat *stat_of(void)
{
	uint32_t zero = 0;

	return &((struct cpu_stat *)bpf_map_lookup_elem(&cpu_stats, &zero))->stacks;
}

/* Empties the ring; how many records of the kind it held. */
static inline uint64_t ring_take(enum event_kind kind)
{
	uint64_t n = 0;

	for (struct host_record *r; (r = host.ring); free(r)) {
		assert_true(r->submitted);
		n += *(const uint32_t *)r->data == (uint32_t)kind;
		host.ring = r->next;
	}
	return n;
}

static inline int teardown(void **state)
{
	(void)state;
	(void)ring_take(EVENT_NR);
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

/* What version 3.12 and newer count code objects by, if the layout says so. */
#define COUNTER_AT 0x4000

static inline void counter_begin(uint32_t value)
{
	f.py.code_counter = COUNTER_AT;
	f.py.tstate_interp = 16;
	python_change();
	poke(f.th, STATE + 16, INTERP);
	poke32(INTERP + COUNTER_AT, value);
}

/* As if nothing had been seen lately. */
static inline void forget(void)
{
	for (uint32_t i = 0; i < REMEMBERED_CHAINS; i++)
		((struct remembered_chain *)bpf_map_lookup_elem(&seen_chains, &i))->first = 0;
	for (uint32_t i = 0; i < 1 << KNOWN_CODES_BITS; i++)
		*(struct known_code *)bpf_map_lookup_elem(&known_codes, &i) = (struct known_code){ 0 };
}

#endif
