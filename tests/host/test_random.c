/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random programs against a naive oracle. Several threads of several processes make calls of every kind, and a switch
 * to another thread may come at every helper and atomic operation of the kernel side. Which thread goes on is drawn
 * from the seed, so a run repeats. The oracle is a table of what each call really did: at the end, sums per process and
 * stack, and the live blocks, are the same in both, to the byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "context.h"

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"

#define SITES 6
#define SITE(n) (PROG_TEXT + 0x1000 + (n)*0x100)
#define FRAME(n) (PROG_TEXT + 0x9000 + (n)*16)
#define MAX_FRAMES 4
#define MAX_BLOCKS 4096
#define MAX_HEAPS 64
#define MAX_RUNNERS 64
#define MAX_ALIVE 12
#define STEPS 120
#define RUNNER_STACK 131072
#define SEEDS 4 /* TIDEMARK_SEEDS in the environment asks for more */

/* --- the oracle --- */
struct truth_key { /* no holes: compared as bytes */
	uint64_t account, site, leaf, n_frames, frame[MAX_FRAMES];
};

struct block {
	uint64_t addr, bytes;
	struct truth_key key; /* site 0: inherited by fork */
};

/* The allocator of one address space. */
struct heap {
	uint32_t account;
	struct block blocks[MAX_BLOCKS]; /* those that the program may free */
	uint64_t free_addrs[MAX_BLOCKS];
	int n_blocks, n_free;
	uint64_t next_addr;
};

struct runner {
	struct thread *th;
	struct heap *heap;
	ucontext_t context;
	unsigned char *stack;
	struct task_struct *task; /* current, while others run */
	uint64_t frame[MAX_FRAMES];
	int index, n_frames;
	bool ended;
};

struct play {
	ucontext_t over; /* where to go on when all have ended */
	struct runner *runners[MAX_RUNNERS];
	struct heap *heaps[MAX_HEAPS];
	int n_runners, n_heaps, n_alive;
	uint64_t rng, jumps, unmatched;
	uint64_t losses[LOSS_NR]; /* of processes that are gone */
};

static struct play play;
static const char truth_id;
static struct runner *self; /* who runs now */

static uint64_t draw(uint64_t below)
{
	play.rng ^= play.rng << 13;
	play.rng ^= play.rng >> 7;
	play.rng ^= play.rng << 17;
	return play.rng % below;
}

static struct host_map *truth(void)
{
	return host_map_find(&truth_id, BPF_MAP_TYPE_HASH, sizeof(struct truth_key), sizeof(struct sum), UINT32_MAX);
}

static struct sum *truth_row(const struct truth_key *k)
{
	struct host_elem **at = host_map_link(truth(), k);

	return *at ? (*at)->value : host_elem_add(truth(), at, k, NULL);
}

static struct heap *heap_new(const struct heap *from)
{
	struct heap *h = calloc(1, sizeof(*h));

	assert(h && play.n_heaps < MAX_HEAPS);
	h->next_addr = HEAP_BASE;
	if (from)
		*h = *from;
	for (int i = 0; i < h->n_blocks; i++)
		h->blocks[i].key.site = 0;
	return play.heaps[play.n_heaps++] = h;
}

static uint64_t addr_take(struct heap *h)
{
	if (h->n_free && draw(4))
		return h->free_addrs[--h->n_free]; /* the one given back last: reused as soon as can be */
	return h->next_addr += 64;
}

static void addr_give(struct heap *h, uint64_t addr)
{
	assert(h->n_free < MAX_BLOCKS);
	h->free_addrs[h->n_free++] = addr;
}

static void publish(struct heap *h, struct block b)
{
	assert(h->n_blocks < MAX_BLOCKS);
	h->blocks[h->n_blocks++] = b;
}

/* A block that nobody else will free from now on. */
static bool claim(struct heap *h, struct block *ret)
{
	if (!h->n_blocks)
		return false;
	uint64_t i = draw((uint64_t)h->n_blocks);
	*ret = h->blocks[i];
	h->blocks[i] = h->blocks[--h->n_blocks];
	return true;
}

static void truth_free(const struct block *b)
{
	if (!b->key.site) {
		play.unmatched++;
		return;
	}
	struct sum *s = truth_row(&b->key);
	s->free_bytes += b->bytes;
	s->free_count++;
}

static struct block truth_alloc(const struct fn *fn, uint64_t leaf, uint64_t addr, uint64_t bytes)
{
	struct block b = { .addr = addr, .bytes = bytes };

	b.key.account = self->heap->account;
	b.key.site = fn->cookie.site;
	b.key.leaf = leaf;
	b.key.n_frames = (uint64_t)self->n_frames;
	for (int i = 0; i < self->n_frames; i++)
		b.key.frame[i] = self->frame[self->n_frames - 1 - i];
	struct sum *s = truth_row(&b.key);
	s->alloc_bytes += bytes;
	s->alloc_count++;
	return b;
}

/* --- turns --- */
static int draw_alive(void)
{
	for (;;) {
		uint64_t i = draw((uint64_t)play.n_runners);
		if (!play.runners[i]->ended)
			return (int)i;
	}
}

static void turn_take(struct runner *r)
{
	self = r;
	host_cpu = (uint32_t)r->index % HOST_CPUS;
	host_task = r->task;
}

static void turn_maybe_pass(void)
{
	struct runner *me = self;

	if (!me || draw(3))
		return;
	struct runner *next = play.runners[draw_alive()];
	if (next == me)
		return;
	me->task = host_task;
	turn_take(next);
	if (swapcontext(&me->context, &next->context))
		abort();
}

static void runner_main(void);

static struct runner *runner_new(struct thread *th, struct heap *h)
{
	struct runner *r = calloc(1, sizeof(*r));

	assert(r && play.n_runners < MAX_RUNNERS);
	r->th = th;
	r->task = &th->task;
	r->heap = h;
	r->index = play.n_runners;
	r->stack = malloc(RUNNER_STACK);
	assert(r->stack && !getcontext(&r->context));
	r->context.uc_stack.ss_sp = r->stack;
	r->context.uc_stack.ss_size = RUNNER_STACK;
	makecontext(&r->context, runner_main, 0);
	play.runners[play.n_runners++] = r;
	play.n_alive++;
	return r;
}

/* --- what a thread does --- */
static uint64_t draw_site(void)
{
	return SITE(draw(SITES));
}

static uint64_t draw_bytes(void)
{
	return draw(5) ? 1 + draw(1000) : draw(2) * (draw(1 << 20));
}

/* The body of an allocation function that is entered: a place, or one time in eight none. */
static uint64_t body(void)
{
	return draw(8) ? addr_take(self->heap) : 0;
}

static void settle(const struct fn *fn, uint64_t leaf, uint64_t addr, uint64_t bytes)
{
	if (addr)
		publish(self->heap, truth_alloc(fn, leaf, addr, bytes));
}

static void do_malloc(void)
{
	uint64_t leaf = draw_site(), bytes = draw_bytes();

	call_begin(self->th, &fn_malloc, leaf, ARGS(bytes));
	uint64_t addr = body();
	call_end(self->th, addr);
	settle(&fn_malloc, leaf, addr, bytes);
}

/* calloc with malloc inside, by a call or by a jump. */
static void do_calloc(void)
{
	uint64_t leaf = draw_site(), bytes = draw_bytes(), n = draw(4), addr;

	call_begin(self->th, &fn_calloc, leaf, ARGS(n, bytes));
	if (draw(2)) {
		fn_reach(self->th, &fn_malloc, ARGS(bytes));
		addr = body();
	} else {
		call_begin(self->th, &fn_malloc, INSIDE(fn_calloc), ARGS(bytes));
		addr = body();
		call_end(self->th, addr);
	}
	call_end(self->th, addr);
	settle(&fn_calloc, leaf, addr, n * bytes);
}

static void do_posix_memalign(void)
{
	uint64_t leaf = draw_site(), bytes = draw_bytes(), out = self->th->sp - 1024;

	call_begin(self->th, &fn_posix_memalign, leaf, ARGS(out, 64, bytes));
	call_begin(self->th, &fn_memalign, INSIDE(fn_posix_memalign), ARGS(64, bytes));
	uint64_t addr = body();
	call_end(self->th, addr);
	if (addr)
		poke(self->th, out, addr);
	call_end(self->th, addr ? 0 : ENOMEM);
	settle(&fn_posix_memalign, leaf, addr, bytes);
}

/* The operators of C++ down to malloc; a malloc that fails leaves nothing. */
static void do_new(void)
{
	static const struct fn *const chain[] = { &fn_new_nothrow, &fn_new_array, &fn_new };
	struct thread *th = self->th;
	uint64_t leaf = draw_site(), bytes = draw_bytes(), first = draw(3), calls = 1, addr;

	call_begin(th, chain[first], leaf, ARGS(bytes));
	for (uint64_t i = first + 1; i < 3; i++) {
		if (draw(2)) {
			fn_reach(th, chain[i], ARGS(bytes));
			continue;
		}
		call_begin(th, chain[i], INSIDE(*chain[i - 1]), ARGS(bytes));
		calls++;
	}
	call_begin(th, &fn_malloc, INSIDE(fn_new), ARGS(bytes ? bytes : 1));
	addr = body();
	call_end(th, addr);
	while (calls--)
		call_end(th, addr);
	settle(chain[first], leaf, addr, bytes);
}

static void do_free(void)
{
	struct block b;

	if (!claim(self->heap, &b))
		return;
	call_begin(self->th, draw(2) ? &fn_free : &fn_free_sized, draw_site(), ARGS(b.addr, b.bytes));
	truth_free(&b);
	addr_give(self->heap, b.addr);
	call_end(self->th, 0);
}

/* Gives the new address; moving is done by calls of its own now and then. */
static uint64_t realloc_body(const struct block *b, uint64_t bytes)
{
	struct heap *h = self->heap;
	uint64_t to = draw(3) ? b->addr : addr_take(h);

	if (to == b->addr)
		return to;
	if (draw(2)) {
		call(self->th, &fn_malloc, INSIDE(fn_realloc), ARGS(bytes), to);
		call(self->th, &fn_free, INSIDE(fn_realloc), ARGS(b->addr), 0);
	}
	addr_give(h, b->addr);
	return to;
}

static void do_realloc(void)
{
	uint64_t leaf = draw_site(), bytes = draw_bytes();
	struct block b;

	if (!claim(self->heap, &b))
		return;
	call_begin(self->th, &fn_realloc, leaf, ARGS(b.addr, bytes));
	if (!bytes) {
		truth_free(&b);
		addr_give(self->heap, b.addr);
		call_end(self->th, 0);
	} else if (!draw(4)) {
		call_end(self->th, 0); /* fails */
		publish(self->heap, b);
	} else {
		uint64_t to = realloc_body(&b, bytes);
		truth_free(&b);
		call_end(self->th, to);
		settle(&fn_realloc, leaf, to, bytes);
	}
}

static void do_realloc_null(void)
{
	uint64_t leaf = draw_site(), bytes = draw_bytes();

	call_begin(self->th, &fn_realloc, leaf, ARGS(0, bytes));
	uint64_t addr = body();
	call_end(self->th, addr);
	settle(&fn_realloc, leaf, addr, bytes);
}

/* Left by longjmp: what it did is not seen, and what it had taken is back at this thread's next call. */
static void do_jump(void)
{
	struct thread *th = self->th;
	struct jump j = jump_save(th);
	struct block b;

	play.jumps++;
	if (draw(2) || !claim(self->heap, &b)) {
		th->sp -= draw(32) * 8;
		call_begin(th, draw(2) ? &fn_malloc : &fn_calloc, draw_site(), ARGS(1, 100));
		jump_to(th, j);
		return;
	}
	call_begin(th, &fn_realloc, draw_site(), ARGS(b.addr, 100));
	jump_to(th, j);
	th->sp -= draw(2) * 256; /* the slot may lie in a hole of what follows */
	do_malloc();
	jump_to(th, j);
	publish(self->heap, b);
}

static void do_frame(void)
{
	if (self->n_frames < MAX_FRAMES && draw(2)) {
		self->frame[self->n_frames] = FRAME(draw(3));
		frame_enter(self->th, self->frame[self->n_frames++]);
	} else if (self->n_frames) {
		frame_leave(self->th);
		self->n_frames--;
	}
}

static void (*const calls[])(void) = {
	do_malloc, do_malloc, do_calloc,  do_posix_memalign, do_new,  do_free,	do_free,
	do_free,   do_free,   do_realloc, do_realloc_null,   do_jump, do_frame,
};

static void do_call(void)
{
	calls[draw(sizeof(calls) / sizeof(*calls))]();
}

static bool has_room(void)
{
	return play.n_alive < MAX_ALIVE && play.n_runners < MAX_RUNNERS - 2 && play.n_heaps < MAX_HEAPS - 2;
}

static void do_thread(void)
{
	if (has_room())
		runner_new(thread_new(self->th->process), self->heap);
}

static void do_fork(void)
{
	if (!has_room())
		return;
	struct heap *h = heap_new(self->heap); /* memory is copied before the programs hear of the child */
	struct process *child = process_fork(self->th, false);
	h->account = account_of(child);
	struct runner *r = runner_new(child->leader, h);

	memcpy(r->frame, self->frame, sizeof(r->frame));
	r->n_frames = self->n_frames;
}

/* The whole process becomes another program: only done by threads that are alone. */
static void do_exec(void)
{
	if (!has_room() || self->th->process->signal.live.counter > 1)
		return;
	process_exec(self->th);
	self->heap = heap_new(NULL);
	self->heap->account = account_of(self->th->process);
	self->n_frames = 0;
}

/* The child works in the parent's memory while the parent waits; then it becomes another program, or ends. */
static void do_vfork(void)
{
	struct thread *parent = self->th;

	if (!has_room())
		return;
	struct process *child = process_fork(parent, true);
	int n = self->n_frames;

	self->th = child->leader;
	for (uint64_t i = draw(4); i; i--)
		calls[draw(10)](); /* neither jumps nor frames: the stack is the parent's */
	assert_int_equal(self->n_frames, n);
	if (draw(2)) {
		process_exec(child->leader);
		struct heap *h = heap_new(NULL);
		h->account = account_of(child);
		runner_new(child->leader, h);
	} else {
		thread_exit(child->leader);
	}
	self->th = parent;
}

static void (*const lives[])(void) = { do_thread, do_thread, do_fork, do_exec, do_vfork };

/*
 * A thread may end inside a call. No switch meanwhile: when the last two threads of a process end at once, the process
 * may be gone before the block is put back, which then nobody can free or see.
 */
static void end(void)
{
	struct block b;

	if (!draw(3) && claim(self->heap, &b)) {
		call_begin(self->th, &fn_realloc, draw_site(), ARGS(b.addr, 100));
		publish(self->heap, b);
	}
	host.at_point = NULL;
	thread_exit(self->th);
	host.at_point = turn_maybe_pass;
}

static void runner_main(void)
{
	for (int i = 0; i < STEPS; i++) {
		turn_maybe_pass();
		if (draw(25))
			do_call();
		else
			lives[draw(sizeof(lives) / sizeof(*lives))]();
	}
	end();
	self->ended = true;
	const ucontext_t *next = &play.over;
	if (--play.n_alive) {
		turn_take(play.runners[draw_alive()]);
		next = &self->context;
	}
	setcontext(next);
	abort();
}

/* --- the comparison --- */
static struct truth_key key_of_sum(const struct sum *s)
{
	struct truth_key key = { .account = s->account };
	const struct stack *st = bpf_map_lookup_elem(&stacks, &s->ids.native);

	assert_non_null(st);
	assert_int_equal(st->cut, CUT_NONE);
	assert_in_range(st->n_ips, 1, MAX_FRAMES + 1);
	key.site = st->site;
	key.leaf = st->ip[0];
	key.n_frames = st->n_ips - 1u;
	memcpy(key.frame, &st->ip[1], key.n_frames * sizeof(key.frame[0]));
	return key;
}

/* Takes the sums away from the truth, several of one stack too: nothing may be left. */
static void compare_sums(void)
{
	for_each_elem(&sums, e)
	{
		const struct sum *got = e->value;
		if (!got->key)
			continue;
		struct truth_key key = key_of_sum(got);
		struct sum *want = truth_row(&key);
		want->alloc_bytes -= got->alloc_bytes;
		want->alloc_count -= got->alloc_count;
		want->free_bytes -= got->free_bytes;
		want->free_count -= got->free_count;
		assert_int_equal(got->untracked_count, 0);
	}
	static const struct sum nothing;
	struct host_elem *row = NULL;
	while ((row = host_map_next(truth(), row)))
		assert_memory_equal(row->value, &nothing, sizeof(nothing));
}

static void compare_live(void)
{
	uint32_t n = 0;

	for (int h = 0; h < play.n_heaps; h++) {
		for (int i = 0; i < play.heaps[h]->n_blocks; i++) {
			const struct block *b = &play.heaps[h]->blocks[i];
			if (!b->key.site)
				continue;
			const struct live_block *l = live_at((uint32_t)b->key.account, b->addr);
			assert_non_null(l);
			assert_int_equal(l->bytes, b->bytes);
			struct truth_key key = key_of_sum(sum_at(l->sum));
			assert_memory_equal(&key, &b->key, sizeof(key));
			n++;
		}
	}
	assert_int_equal(n, live_count());
}

/* A process counts its losses through all of its images. What a child did in its parent's memory, the parent counts. */
static void losses_keep(const struct proc *p)
{
	for (int i = 0; i < LOSS_NR; i++) {
		if (p->flags & PROC_BORROWS_MM)
			assert_int_equal(p->losses[i], 0);
		play.losses[i] += p->losses[i];
	}
}

/* The last word of a process is its exit event. */
static void compare_losses(void)
{
	uint64_t wake;

	for (struct event *e; (e = event_next(&wake)); free(e))
		if (e->kind == EVENT_EXIT)
			losses_keep(&e->final);
	for_each_elem(&procs, e) assert_int_equal(((const struct proc *)e->value)->tgid, 0);
	assert_int_equal(play.losses[LOSS_UNMATCHED_FREE], play.unmatched);
	assert_true(play.losses[LOSS_MISSED_RETURN] <= play.jumps);
	for (int i = 0; i < LOSS_NR; i++)
		if (i != LOSS_UNMATCHED_FREE && i != LOSS_MISSED_RETURN)
			assert_int_equal(play.losses[i] + orphan_loss_take((enum loss)i), 0);
}

static void play_done(void)
{
	for (int i = 0; i < play.n_runners; i++) {
		free(play.runners[i]->stack);
		free(play.runners[i]);
	}
	for (int i = 0; i < play.n_heaps; i++)
		free(play.heaps[i]);
}

static void play_seed(bool sessions, uint64_t seed)
{
	world_init(sessions);
	play = (struct play){ .rng = seed };
	for (int i = 0; i < 2; i++) {
		struct process *p = process_new();
		be(p->leader);
		process_follow(p, PROC_HEAP | PROC_FOLLOW);
		struct heap *h = heap_new(NULL);
		h->account = account_of(p);
		runner_new(p->leader, h);
	}
	host.at_point = turn_maybe_pass;
	turn_take(play.runners[0]);
	if (swapcontext(&play.over, &self->context))
		abort();
	host.at_point = NULL;
	self = NULL;
	books_check();
	compare_losses();
	compare_live();
	compare_sums();
	print_message("seed %lx: %u sums, %u live blocks, %d threads, %lu jumps, %lu unmatched frees\n", seed,
		      host_map_of(&sums)->n, live_count(), play.n_runners, play.jumps, play.unmatched);
	play_done();
	world_done();
}

static void play_seeds(bool sessions)
{
	const char *asked = getenv("TIDEMARK_SEEDS");
	uint64_t n = asked ? strtoull(asked, NULL, 10) : SEEDS;

	for (uint64_t seed = 1; seed <= n; seed++)
		play_seed(sessions, seed * 0x9e3779b97f4a7c15ull);
}

static void test_sessions(void **state)
{
	(void)state;
	play_seeds(true);
}

static void test_pairs(void **state)
{
	(void)state;
	play_seeds(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
