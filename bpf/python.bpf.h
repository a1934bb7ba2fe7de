/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Python walker: the frames that this thread's interpreter is in, innermost first, as (code object, code unit). Names and lines are
 * user space's affair (collect/pynames).
 *
 *	thread pointer -> thread-specific data[autoTSSkey] -> PyThreadState -> frame -> previous -> ...
 *
 * The state is found through the thread itself, never through "the current one" alone, so a thread that does not hold the GIL, or is none of
 * Python's, can't be charged with another's frames (include/python.h says which of the two counts when they differ).
 *
 * From 3.11 on frames lie side by side in chunks of memory, so whole pages of them are read at once. Each code object is identified by what it says of
 * itself: its address alone may be another one's by now.
 */
#ifndef TIDEMARK_BPF_PYTHON_H
#define TIDEMARK_BPF_PYTHON_H

#include "unwind.bpf.h"

#define GLIBC_TSD_SECOND 0x510 /* nptl/descr.h: struct pthread.specific[], pointers to further blocks */

static __always_inline int read_u64(__u64 addr, __u64 *ret)
{
	return bpf_probe_read_user(ret, sizeof(*ret), (void *)addr);
}

/* Key of the thread-specific data; it never changes once CPython has made it. 0, -1: there is none yet. */
static __always_inline int python_key(struct thread_state *t, const struct python_info *py, __u32 *ret)
{
	struct {
		__s32 is_initialized;
		__u32 key;
	} tss;

	if (!t->python_key) {
		if (bpf_probe_read_user(&tss, sizeof(tss), (void *)(py->runtime + py->tss_key)) || !tss.is_initialized)
			return -1;
		t->python_key = tss.key + 1;
	}
	*ret = t->python_key - 1;
	return 0;
}

/* This thread's own PyThreadState as CPython's thread-specific data has it; 0: none. */
static __always_inline __u64 python_own_state(struct thread_state *t, const struct python_info *py, __u64 thread)
{
	__u64 at = 0, state = 0;
	__u32 key;

	if (python_key(t, py, &key))
		return 0;
	if (py->tsd == PYTHON_TSD_MUSL) {
		if (read_u64(thread + MUSL_TSD_OFFSET, &at))
			return 0;
		at += (__u64)key * 8;
	} else if (key < GLIBC_TSD_KEYS) {
		at = thread + GLIBC_TSD_OFFSET + (__u64)key * 16 + 8;
	} else {
		if (read_u64(thread + GLIBC_TSD_SECOND + (__u64)(key / GLIBC_TSD_KEYS) * 8, &at) || !at)
			return 0;
		at += (__u64)(key % GLIBC_TSD_KEYS) * 16 + 8;
	}
	return read_u64(at, &state) ? 0 : state;
}

/* The state that this thread runs with: before 3.12 that may be a subinterpreter's, which only the holder of the GIL tells. */
static __always_inline __u64 python_state(struct thread_state *t, const struct python_info *py)
{
	__u64 thread = bpf_get_current_task_btf()->thread.fsbase, current, owner;
	__u64 own = python_own_state(t, py, thread);

	if (!py->tstate_current || read_u64(py->runtime + py->tstate_current, &current) || !current || current == own)
		return own;
	if (read_u64(current + py->tstate_thread, &owner) || owner != thread)
		return own;
	return current;
}

static __always_inline __u64 python_first_frame(const struct python_info *py, __u64 state)
{
	__u64 frame;

	if (read_u64(state + py->tstate_frame, &frame))
		return 0;
	if (py->has_cframe && (!frame || read_u64(frame + py->cframe_frame, &frame)))
		return 0;
	return frame;
}

/* Gets a frame into the window: with the page around it where others lie beside it, else alone. */
__noinline int frame_load(struct thread_state *t, __u64 frame, __u32 alone)
{
	if (!t || frame & 7 || frame >= USER_ADDR_MAX)
		return -1;
	__u64 in_page = frame & (PAGE_BYTES - 1), base = frame - in_page;

	if (frame >= t->window_base && frame - t->window_base + PYTHON_FRAME_BYTES <= t->window_bytes)
		return 0;
	t->window_bytes = 0;
	if (alone) {
		if (bpf_probe_read_user(t->window, PYTHON_FRAME_BYTES, (void *)frame))
			return -1;
		t->window_base = frame;
		t->window_bytes = PYTHON_FRAME_BYTES;
		return 0;
	}
	if (in_page > PAGE_BYTES - PYTHON_FRAME_BYTES)
		base = frame + PYTHON_FRAME_BYTES - WINDOW_BYTES;
	if (!bpf_probe_read_user(t->window, WINDOW_BYTES, (void *)base)) {
		t->window_base = base;
		t->window_bytes = WINDOW_BYTES;
		return 0;
	}
	/* A small frame at the end of its chunk, behind which nothing is mapped. */
	__u64 rest = PAGE_BYTES - in_page;
	barrier_var(rest);
	if (!rest || rest > WINDOW_BYTES || bpf_probe_read_user(t->window, rest, (void *)frame))
		return -1;
	t->window_base = frame;
	t->window_bytes = rest;
	return 0;
}

static __always_inline __u64 frame_word(const struct thread_state *t, __u64 addr)
{
	return t->window[((addr - t->window_base) >> 3) & (WINDOW_WORDS - 1)];
}

/* Number of the code unit that runs, plus one; 0: the frame has not begun. */
static __always_inline __u32 python_unit(const struct thread_state *t, const struct python_info *py, __u64 code)
{
	__u64 at = t->walk.frame + py->frame_instr, word = frame_word(t, at);

	if (py->has_lasti) {
		__s32 lasti = (__s32)(word >> (at & 7) * 8);
		return lasti < 0 ? 0 : ((__u32)lasti >> py->lasti_shift) + 1;
	}
	__s64 bytes = (__s64)(word - (code + py->code_start));
	if (bytes < 0)
		return 0;
	return bytes >> 1 < PYTHON_UNIT_MAX ? (__u32)(bytes >> 1) + 1 : PYTHON_UNIT_MAX;
}

/* The frame held back is complete: into the hash, and, with a scratch slot, into the chain. */
static __always_inline void python_emit(struct python_walk *w, struct scratch *s)
{
	__u32 n = w->n;

	w->hash = table_mix(table_mix(w->hash, w->pending), w->pending_id);
	if (s && n < PYTHON_FRAMES_MAX) {
		barrier_var(n);
		s->chain.frame[n & PYTHON_FRAMES_MAX] = w->pending;
		s->chain.code_id[n & PYTHON_FRAMES_MAX] = w->pending_id;
	}
	w->n++;
	w->pending = 0;
}

static __always_inline int python_broken(struct python_walk *w)
{
	w->flags |= PYTHON_CHAIN_BROKEN;
	return 0;
}

static __always_inline __u8 python_owner(const struct thread_state *t, const struct python_info *py, __u64 frame)
{
	__u64 at = frame + py->frame_owner;

	return (__u8)(frame_word(t, at) >> (at & 7) * 8);
}

/* A counter that stands where co_version of the newest code object can't come from is none: the version's layout is another than we know. */
#define COUNTER_AHEAD_MAX (1u << 20)

static __always_inline int counter_fits(const struct python_info *py, __u64 counter, __u32 newest)
{
	if (!py->code_counter)
		return 1;
	return newest && counter > newest && counter - newest <= COUNTER_AHEAD_MAX;
}

/* --- code objects that were identified lately --- */

/* Mixed one after the other: addresses that lie side by side and counters that follow each other differ in the same low bits. */
static __always_inline __u64 known_code_key(const struct thread_state *t, __u64 code)
{
	__u64 process = table_mix(0, (__u64)t->account << 32 | t->image);

	return table_mix(table_mix(table_mix(process, t->walk.interp), code), t->walk.counter);
}

static __always_inline __u32 known_code_seal(__u64 key, const struct known_code *k)
{
	return python_code_id_fold(table_mix(table_mix(~key, k->id), (__u64)k->version << 32 | k->is_told));
}

static __always_inline struct known_code *known_code_at(__u64 key)
{
	__u32 place = (__u32)(key >> (64 - KNOWN_CODES_BITS));

	return bpf_map_lookup_elem(&known_codes, &place);
}

/* 1: it is known, and copied to `ret`. */
static __always_inline int known_code_get(const struct thread_state *t, __u64 code, struct known_code *ret)
{
	__u64 key = known_code_key(t, code);
	const volatile struct known_code *k = known_code_at(key); /* volatile: what is checked is what is used */

	if (!k || !t->walk.counter)
		return 0;
	ret->key = k->key;
	ret->seal = k->seal;
	ret->id = k->id;
	ret->version = k->version;
	ret->is_told = k->is_told;
	return ret->key == key && ret->seal == known_code_seal(key, ret);
}

static __always_inline void known_code_put(const struct thread_state *t, __u64 code, const struct known_code *from)
{
	__u64 key = known_code_key(t, code);
	struct known_code *k = known_code_at(key);

	if (!k)
		return;
	k->key = key;
	k->id = from->id;
	k->version = from->version;
	k->is_told = from->is_told;
	k->seal = known_code_seal(key, from);
}

/* What a code object says of itself. */
static __always_inline int python_identify(struct thread_state *t, const struct python_info *py, __u64 code, __u32 *ret)
{
	struct python_walk *w = &t->walk;
	struct known_code k = { 0 };

	if (!known_code_get(t, code, &k)) {
		if (bpf_probe_read_user(w->code_words, sizeof(w->code_words), (void *)(code + py->code_id)) ||
		    bpf_probe_read_user(w->table_words, sizeof(w->table_words),
					(void *)(python_code_table(w->code_words) + PYTHON_TABLE_HEAD)))
			return -1;
		k.version = w->code_words[PYTHON_VERSION_WORD] >> 32;
		k.id = python_code_id(w->code_words, w->table_words);
		k.is_told = 0;
		if (w->counter && counter_fits(py, w->counter, k.version))
			known_code_put(t, code, &k);
	}
	if (k.version > w->newest)
		w->newest = k.version;
	*ret = k.id;
	return 0;
}

/* What tells a frame: where the next one is, its code, what of it runs, whose it is. */
static __always_inline __u64 step_hash(const struct thread_state *t, const struct python_info *py, __u64 frame, __u64 h)
{
	__u64 at = frame + py->frame_instr, instr = frame_word(t, at);

	if (py->has_lasti) /* half a word; what stands beside it changes by itself */
		instr = (__u32)(instr >> (at & 7) * 8);
	if (py->entry != PYTHON_ENTRY_ALL)
		instr += (__u64)python_owner(t, py, frame) << 56;
	h = table_mix(h, frame_word(t, frame + py->frame_back));
	h = table_mix(h, frame_word(t, frame + py->frame_code));
	return table_mix(h, instr);
}

static __always_inline void step_note(struct thread_state *t, const struct python_info *py)
{
	struct python_walk *w = &t->walk;
	__u32 n = w->steps++, index = w->remember;
	struct remembered_chain *c = bpf_map_lookup_elem(&seen_chains, &index);

	if (!c || n >= REMEMBERED_STEPS) {
		w->too_many = 1;
		return;
	}
	c->at[n] = w->frame;
	w->check = step_hash(t, py, w->frame, w->check);
}

/* One frame outwards. 1: go on, 0: the last one, or broken. scratch: where the frames go; >= cfg.scratch_slots: nowhere, only the hash is wanted. */
__noinline int python_step(struct thread_state *t, __u32 scratch)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);

	if (!t)
		return 0;
	struct python_walk *w = &t->walk;
	__u32 index = w->python;
	struct python_info *py = bpf_map_lookup_elem(&pythons, &index);
	if (!py || frame_load(t, w->frame, py->has_lasti))
		return python_broken(w);
	__u64 next = frame_word(t, w->frame + py->frame_back);
	if (w->counter)
		step_note(t, py);
	if (py->entry == PYTHON_ENTRY_SHIM && python_owner(t, py, w->frame) >= py->shim_owner) {
		if (w->pending)
			w->pending |= PYTHON_FRAME_ENTRY;
		w->frame = next;
		return next != 0;
	}
	__u64 code = frame_word(t, w->frame + py->frame_code) & ~7ull; /* 3.14: the low bits are tags */
	__u32 id;
	if (!code || code >= USER_ADDR_MAX || python_identify(t, py, code, &id))
		return python_broken(w);
	if (w->pending)
		python_emit(w, s);
	if (w->n >= PYTHON_FRAMES_MAX) {
		w->flags |= PYTHON_CHAIN_CUT;
		return 0;
	}
	w->pending = python_frame_pack(code, python_unit(t, py, code));
	w->pending_id = id;
	if (py->entry == PYTHON_ENTRY_ALL || (py->entry == PYTHON_ENTRY_FLAG && python_owner(t, py, w->frame)))
		w->pending |= PYTHON_FRAME_ENTRY;
	w->frame = next;
	return next != 0;
}

/* Finds the thread's innermost frame; 0: it has none. walk.counter: code_turn of its process. */
__noinline int python_begin(struct thread_state *t, __u32 python)
{
	struct python_info *py = bpf_map_lookup_elem(&pythons, &python);

	if (!t || !py || !py->runtime)
		return 0;
	struct python_walk *w = &t->walk;
	w->python = python;
	w->interp = 0;
	if (py->code_counter)
		w->counter = 0;
	w->state = python_state(t, py);
	w->first = w->state ? python_first_frame(py, w->state) : 0;
	/* What can't be read is no counter: the frames are walked. */
	if (w->first && py->code_counter && !read_u64(w->state + py->tstate_interp, &w->interp))
		(void)bpf_probe_read_user(&w->counter, sizeof(__u32), (void *)(w->interp + py->code_counter));
	return w->first != 0;
}

/* Walks from there outwards; the number of frames. scratch: as in python_step. remember: which chain is filled; REMEMBERED_CHAINS: none. */
__noinline int python_walk(struct thread_state *t, __u32 image, __u32 scratch, __u32 remember)
{
	if (!t)
		return 0;
	struct python_walk *w = &t->walk;
	int more = 1;

	w->frame = w->first;
	w->hash = table_mix(0x507974686f6eull, image);
	w->pending = 0;
	w->n = w->flags = w->newest = 0;
	w->check = w->steps = 0;
	w->too_many = remember >= REMEMBERED_CHAINS;
	w->remember = remember;
	NO_UNROLL
	for (int i = 0; more && i < 2 * PYTHON_FRAMES_MAX; i++) /* shims count as steps */
		more = python_step(t, scratch);
	if (more) /* most likely a circle of shims */
		w->flags |= PYTHON_CHAIN_CUT;
	if (w->pending && w->n < PYTHON_FRAMES_MAX) {
		struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);
		python_emit(w, s);
	}
	return w->n;
}

/* --- frames that were there lately --- */

static __always_inline __u32 chain_place(const struct thread_state *t, const struct python_info *py)
{
	__u64 first = t->walk.first, h;

	h = table_mix(table_mix(first, frame_word(t, first + py->frame_instr)),
		      frame_word(t, first + py->frame_back) + t->account);
	__u32 place = (__u32)(((h >> 32) * REMEMBERED_CHAINS) >> 32);
	barrier_var(place); /* as in remember_place */
	return place;
}

/* The chain's id, if the frames are those that are remembered there; 0: they are not. */
__noinline __u64 chain_check(struct thread_state *t, struct remembered_chain *c)
{
	if (!t || !c)
		return 0;
	__u32 index = c->python;
	struct python_info *py = bpf_map_lookup_elem(&pythons, &index);
	__u64 check = 0, frame, id = c->id;
	if (!py)
		return 0;
	NO_UNROLL
	for (__u32 i = 0; i < REMEMBERED_STEPS; i++) {
		if (i >= c->n)
			break;
		frame = c->at[i];
		if (frame_load(t, frame, py->has_lasti))
			return 0;
		check = step_hash(t, py, frame, check);
	}
	return table_mix(check, id) == c->seal ? id : 0;
}

/* 0: not remembered; *ret_place: where it would be. */
static __always_inline __u64 chain_remembered(struct thread_state *t, __u32 *ret_place)
{
	struct python_walk *w = &t->walk;
	__u32 python = w->python;
	struct python_info *py = bpf_map_lookup_elem(&pythons, &python);

	*ret_place = REMEMBERED_CHAINS;
	if (!w->counter || !py || frame_load(t, w->first, py->has_lasti))
		return 0;
	__u32 place = chain_place(t, py);
	struct remembered_chain *c = bpf_map_lookup_elem(&seen_chains, &place);
	if (!c)
		return 0;
	*ret_place = place;
	if (c->first != w->first || c->state != w->state || c->counter != w->counter || c->account != t->account ||
	    c->image != t->image)
		return 0;
	return chain_check(t, c);
}

static __always_inline void chain_remember(struct thread_state *t, __u64 id)
{
	struct python_walk *w = &t->walk;
	__u32 place = w->remember;
	struct remembered_chain *c = bpf_map_lookup_elem(&seen_chains, &place);
	__u32 python = w->python;
	const struct python_info *py = bpf_map_lookup_elem(&pythons, &python);

	if (!c)
		return;
	c->first = 0;
	if (w->too_many || w->flags || !py || !counter_fits(py, w->counter, w->newest))
		return;
	c->state = w->state;
	c->id = id;
	c->seal = table_mix(w->check, id);
	c->counter = w->counter;
	c->account = t->account;
	c->image = t->image;
	c->python = w->python;
	c->n = w->steps;
	c->first = w->first;
}

#endif
