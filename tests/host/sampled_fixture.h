/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The heap's fixture where calls are sampled. The distance to the next sampling point stands in the thread's state: a test sets it, and
 * so decides which call is sampled. Included after heap_fixture.h.
 */
#ifndef TIDEMARK_HOST_SAMPLED_FIXTURE_H
#define TIDEMARK_HOST_SAMPLED_FIXTURE_H

#define R 1024ull /* cfg.sample_bytes, so the mean distance at rate 1 */
#define FAR_AWAY (1ull << 60)

static inline int setup_rate_1(bool sessions)
{
	(void)setup(sessions);
	config_set((struct config){ .sample_bytes = R });
	proc_of(f.p)->rate = 1;
	return 0;
}

static inline int setup_sampled_sessions(void **state)
{
	(void)state;
	return setup_rate_1(true);
}

static inline int setup_sampled_pairs(void **state)
{
	(void)state;
	return setup_rate_1(false);
}

static inline struct thread_state *state_of(struct thread *th)
{
	be(th);
	return thread_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* The thread's next sampling point lies in the byte of this number, the next one that it allocates being 1. */
static inline void next_point(struct thread *th, uint64_t bytes)
{
	struct thread_state *t = state_of(th);

	t->left_rate = proc_of(th->process)->rate;
	t->left = bytes;
}

static inline void sample_next(void)
{
	next_point(f.th, 1);
}

/* None of the calls to come, until told otherwise. */
static inline void sample_none(void)
{
	next_point(f.th, FAR_AWAY);
}

static inline bool is_any_sampled(struct thread *th)
{
	return state_of(th)->left > FAR_AWAY || state_of(th)->left < FAR_AWAY / 2;
}

static inline void sampled_malloc(uint64_t caller, uint64_t bytes, uint64_t result)
{
	sample_next();
	do_malloc(caller, bytes, result);
	sample_none();
}

/* What the live block at an address stands for. */
static inline struct sample_weight weight_at(uint64_t addr)
{
	const struct live_block *b = live_at(f.id, addr);

	assert_non_null(b);
	return block_weight(b);
}

/* Returns that the kernel awaits: with pairs of probes those of all calls. */
static inline void expect_awaited(int n)
{
	if (world.sessions)
		assert_int_equal(f.th->n_ri, n);
}

/* Whatever was booked is gone again, to the last byte and in its variance. */
static inline void expect_all_gone(void)
{
	struct sum s = sums_at(f.id, 0);

	assert_int_equal(live_count(), 0);
	assert_int_equal(s.alloc_bytes, s.free_bytes + s.untracked_bytes);
	assert_int_equal(s.alloc_count, s.free_count + s.untracked_count);
	assert_int_equal(s.alloc_var, s.gone_var);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 0);
}

/* As calloc with malloc inside, one frame deep: what the allocator's own calls look like. */
static inline void call_around(const struct fn *outer, const struct fn *inner, struct args a)
{
	call_begin(f.th, outer, SITE_A, a);
	call(f.th, inner, INSIDE(*outer), a, P1);
	call_end(f.th, P1);
}

/* A sampled call with another inside shows where such come from. */
static inline void show_nesting(const struct fn *outer, const struct fn *inner, struct args a)
{
	sample_next();
	call_around(outer, inner, a);
	expect_live(P1, a.a[0] * a.a[1]);
	do_free(P1);
	sample_none();
}

/* Every kind of call of 300 bytes that gives P1. */
static inline void shape_call(int i)
{
	uint64_t out = f.th->sp - 512;

	poke(f.th, out, P1);
	switch (i) {
	case 0:
		call(f.th, &fn_malloc, SITE_A, ARGS(300), P1);
		break;
	case 1:
		call(f.th, &fn_calloc, SITE_A, ARGS(3, 100), P1);
		break;
	case 2:
		call(f.th, &fn_memalign, SITE_A, ARGS(64, 300), P1);
		break;
	case 3:
		call(f.th, &fn_posix_memalign, SITE_A, ARGS(out, 64, 300), 0);
		break;
	case 4:
		call(f.th, &fn_realloc, SITE_A, ARGS(0, 300), P1);
		break;
	case 5:
		call(f.th, &fn_reallocarray, SITE_A, ARGS(0, 30, 10), P1);
		break;
	default:
		call_begin(f.th, &fn_new_array, SITE_A, ARGS(300));
		call(f.th, &fn_malloc, INSIDE(fn_new_array), ARGS(308), P1);
		call_end(f.th, P1);
	}
}

#define SHAPE_CALLS 7

#define SAMPLED(name) \
	{ #name " (session)", name, setup_sampled_sessions, teardown, NULL }, \
	{ \
#name " (pair)", name, setup_sampled_pairs, teardown, NULL \
	}

#endif
