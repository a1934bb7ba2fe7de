/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of code objects for user space, made while they run: it reads names and lines from the copy (include/python.h, struct python_code_copy). */
#ifndef TIDEMARK_BPF_PYCODE_H
#define TIDEMARK_BPF_PYCODE_H

#include "python.bpf.h"

/* As much as can be read of `cap` bytes: all, or those up to the page's end. */
static __always_inline __u32 copy_user(__u8 *to, __u32 cap, __u64 from)
{
	__u64 in_page = PAGE_BYTES - (from & (PAGE_BYTES - 1));

	if (!bpf_probe_read_user(to, cap, (void *)from))
		return cap;
	barrier_var(in_page);
	/* One comparison: of two the compiler makes one of in_page - 1, and 6.1's verifier does not learn in_page's bound from it. */
	if (in_page >= cap || bpf_probe_read_user(to, in_page, (void *)from))
		return 0;
	return in_page;
}

/* Names wait for the next interval, copies and all: a wake-up per stack would cost the target more than the stack. */
#define PYTHON_RING_HURRY (1u << 20)

static __always_inline __u64 python_wake(void)
{
	return bpf_ringbuf_query(&python_events, BPF_RB_AVAIL_DATA) > PYTHON_RING_HURRY ? BPF_RB_FORCE_WAKEUP
											: BPF_RB_NO_WAKEUP;
}

static __always_inline void copy_fill(struct python_code_copy *c, const struct proc *p, __u64 code, __u32 id,
				      const __u64 *words, __u32 minor)
{
	c->kind = EVENT_CODE;
	c->code_id = id;
	c->code = code;
	c->file = python_code_file(words, minor);
	c->name = python_code_name(words);
	c->table = python_code_table(words);
	c->id = p->id;
	c->head_bytes = copy_user(c->head, PYTHON_COPY_HEAD, code);
	c->file_bytes = copy_user(c->file_text, PYTHON_COPY_TEXT, c->file);
	c->name_bytes = copy_user(c->name_text, PYTHON_COPY_TEXT, c->name);
}

/* Line tables of long functions. */
static __always_inline int copy_long(const struct proc *p, __u64 code, __u32 id, const __u64 *words, __u32 minor)
{
	struct python_code_copy *c = bpf_ringbuf_reserve(&python_events, sizeof(*c) + PYTHON_COPY_TABLE_LONG, 0);

	if (!c)
		return -1;
	copy_fill(c, p, code, id, words, minor);
	c->table_bytes = copy_user(c->table_text, PYTHON_COPY_TABLE + PYTHON_COPY_TABLE_LONG, c->table);
	bpf_ringbuf_submit(c, python_wake());
	return 0;
}

static __always_inline int copy_short(const struct proc *p, __u64 code, __u32 id, const __u64 *words, __u32 minor)
{
	struct python_code_copy *c = bpf_ringbuf_reserve(&python_events, sizeof(*c), 0);

	if (!c)
		return -1;
	copy_fill(c, p, code, id, words, minor);
	c->table_bytes = copy_user(c->table_text, PYTHON_COPY_TABLE, c->table);
	bpf_ringbuf_submit(c, python_wake());
	return 0;
}

/* Copies a code object, if that was not done lately. 0: user space has it. */
static __always_inline int code_copy(struct proc *p, struct thread_state *t, __u64 code, __u32 id)
{
	__u64 bytes = 0, *words = t->walk.code_words;
	__u64 key = table_mix(table_mix(p->id.image, code), id);
	__u32 one = 1, index = p->python;
	struct python_info *py = bpf_map_lookup_elem(&pythons, &index);

	if (bpf_map_lookup_elem(&codes, &key))
		return 0;
	if (!py || bpf_probe_read_user(words, sizeof(t->walk.code_words), (void *)(code + py->code_id)))
		return -1;
	(void)read_u64(words[10] + PYTHON_TABLE_HEAD, &bytes); /* unreadable: a short copy will say so */
	int is_long = bytes + 2 * PYTHON_TABLE_HEAD > PYTHON_COPY_TABLE;
	if (is_long ? copy_long(p, code, id, words, py->minor) : copy_short(p, code, id, words, py->minor))
		return -1;
	(void)bpf_map_update_elem(&codes, &key, &one, BPF_ANY); /* if it is not kept, there will be a second copy */
	return 0;
}

/* Tells of a code object once. What does not fit into the ring is read from the process later, if it is still there. */
__noinline int code_tell(struct proc *p, struct thread_state *t, __u64 code, __u32 id)
{
	struct known_code k = { 0 };

	if (!p || !t)
		return 0;
	int is_known = known_code_get(t, code, &k) && k.id == id;
	if ((is_known && k.is_told) || code_copy(p, t, code, id) || !is_known)
		return 0;
	k.is_told = 1;
	known_code_put(t, code, &k);
	return 0;
}

/* All of a chain that was just written into a scratch slot. */
static __always_inline int chain_tell(struct proc *p, struct thread_state *t, __u32 scratch)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);

	if (!p || !s)
		return 0;
	NO_UNROLL
	for (int i = 0; i < PYTHON_FRAMES_MAX; i++) {
		if (i >= s->chain.n)
			break;
		(void)code_tell(p, t, python_frame_code(s->chain.frame[i]), s->chain.code_id[i]);
	}
	return 0;
}

#endif
