/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hit of a live process as a small text file: what the unwinder and the walker of Python frames read, and what they made of it. Written by
 * record.c, replayed by test_images.c. Included after world.h. One item per line, numbers in hex:
 *
 *	# ...				a remark
 *	regs PC SP BP FSBASE STACK	at the probed instruction, which is a function's first; STACK: where the main thread's stack begins
 *	python FIELD=VALUE ...		struct python_info; none: no Python
 *	text START END			executable mapping with rows; those that hold for the stack's frames:
 *	row ADDR KIND BP BPOFF CFAOFF CFAADD
 *	code START END			executable mapping without rows
 *	region ADDR BYTES		memory that could be read; zero but for
 *	words ADDR WORD...
 *	cut NR				enum stack_cut, then the frames that were found, with remarks behind them
 *	ip ADDR
 *	chain FLAGS			enum python_chain_flag
 *	py CODE UNIT ENTRY		as python_frame_pack
 */
#ifndef TIDEMARK_HOST_IMAGE_H
#define TIDEMARK_HOST_IMAGE_H

#define IMAGE_TEXTS 64
#define IMAGE_ROWS 512
#define IMAGE_REGIONS 480

#define for_each_python_field(X) \
	X(runtime) X(tss_key) X(tstate_current) X(tstate_thread) X(tstate_frame) X(cframe_frame) X(frame_back) \
		X(frame_code) X(frame_instr) X(frame_owner) X(code_start) X(code_id) X(has_cframe) X(has_lasti) \
			X(lasti_shift) X(entry) X(shim_owner) X(tsd) X(minor) X(tstate_interp) X(code_counter)

struct image {
	uint64_t pc, sp, bp, fsbase, start_stack;
	struct python_info py;
	struct text texts[IMAGE_TEXTS];
	struct text_row rows[IMAGE_ROWS];
	size_t n_texts, n_rows;
	struct host_region regions[IMAGE_REGIONS];
	size_t n_regions;
	uint32_t cut, n_ips, chain_flags, n_python;
	uint64_t ip[STACK_MAX_FRAMES], frame[PYTHON_FRAMES_MAX];
};

#define IMAGE_SITE SITE_FIRST_PROBE
#define IMAGE_PYTHON 1

static inline struct proc *proc_of_thread(const struct thread *th)
{
	return proc_at(proc_find(th->process->pid));
}

/* What a hit at the image's registers gives now. */
static inline struct stack_ids image_take(const struct image *im, struct thread *th)
{
	struct stack_start from = { .pc = im->pc, .sp = im->sp, .bp = im->bp, .slot = im->sp, .site = IMAGE_SITE };
	struct proc *p = proc_of_thread(th);
	struct thread_state *t;
	struct stack_ids ids;

	be(th);
	t = thread_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
	from.caller = caller_read(from.sp, p, t, from.slot);
	stack_take(p, t, &from, LAYER_HEAP, &ids);
	return ids;
}

/* A thread of a new process that is where the image's was; its memory is not there yet. */
static inline struct thread *image_thread(const struct image *im, uint64_t layout)
{
	struct process *process = process_new();
	struct thread *th = process->leader;
	uint32_t index = IMAGE_PYTHON;

	be(th);
	process_follow(process, PROC_HEAP);
	host_unmap_region(th->task.mm, stack_top(th) - STACK_BYTES);
	th->task.thread.fsbase = im->fsbase;
	th->task.mm->start_stack = im->start_stack;
	struct proc *p = proc_of_thread(th);
	p->layout = layout;
	if (im->py.runtime) {
		*(struct python_info *)bpf_map_lookup_elem(&pythons, &index) = im->py;
		p->python = index;
	}
	return th;
}

/* --- reading --- */
static inline void image_line_python(struct image *im, const char *s)
{
	char name[32];
	unsigned long long v;
	int used;

	while (sscanf(s, " %31[a-z_]=%llx%n", name, &v, &used) == 2) {
#define X(field) \
	if (!strcmp(name, #field)) \
		im->py.field = (__typeof__(im->py.field))v;
		for_each_python_field(X)
#undef X
			s += used;
	}
}

static inline bool image_line_words(struct image *im, const char *s)
{
	unsigned long long at, v;
	int used;

	if (sscanf(s, "%llx:%n", &at, &used) != 1)
		return false;
	for (s += used; sscanf(s, "%llx%n", &v, &used) == 1; s += used, at += 8) {
		struct host_region *r = im->regions;
		while (r < im->regions + im->n_regions && !(at >= r->base && at - r->base + 8 <= r->bytes))
			r++;
		if (r == im->regions + im->n_regions)
			return false;
		memcpy(r->image + (at - r->base), &v, 8);
	}
	return true;
}

static inline void image_text(struct image *im, uint64_t start, uint64_t end, bool has_rows)
{
	assert(im->n_texts < IMAGE_TEXTS);
	im->texts[im->n_texts++] = (struct text){ start, end, 0, has_rows ? &im->rows[im->n_rows] : NULL, 0 };
}

static inline bool image_line(struct image *im, const char *line)
{
	unsigned long long v[8];
	char word[16];
	int used, a, b, c;

	if (*line == '#' || *line == '\n')
		return true;
	if (sscanf(line, "%15s %n", word, &used) != 1)
		return false;
	const char *s = line + used;
	if (!strcmp(word, "python"))
		return image_line_python(im, s), true;
	if (!strcmp(word, "words"))
		return image_line_words(im, s);
	if (!strcmp(word, "row")) {
		struct unwind_rule r = { 0 };
		if (sscanf(s, "%llx %llx %llx %d %d %d", v, v + 1, v + 2, &a, &b, &c) != 6 || im->n_rows == IMAGE_ROWS)
			return false;
		r.kind = (__u8)v[1];
		r.bp = (__u8)v[2];
		r.bp_off = (__s16)a;
		r.cfa_off = b;
		r.cfa_add = c;
		im->rows[im->n_rows++] = (struct text_row){ v[0], r };
		im->texts[im->n_texts - 1].n_rows++;
		return true;
	}
	int n = sscanf(s, "%llx %llx %llx %llx %llx", v, v + 1, v + 2, v + 3, v + 4);
	if (!strcmp(word, "regs") && n == 5) {
		im->pc = v[0], im->sp = v[1], im->bp = v[2], im->fsbase = v[3], im->start_stack = v[4];
	} else if ((!strcmp(word, "text") || !strcmp(word, "code")) && n >= 2) {
		image_text(im, v[0], v[1], *word == 't');
	} else if (!strcmp(word, "region") && n >= 2 && im->n_regions < IMAGE_REGIONS) {
		im->regions[im->n_regions++] = (struct host_region){ v[0], v[1], calloc(1, v[1]) };
	} else if (!strcmp(word, "cut") && n >= 1) {
		im->cut = (uint32_t)v[0];
	} else if (!strcmp(word, "ip") && n >= 1 && im->n_ips < STACK_MAX_FRAMES) {
		im->ip[im->n_ips++] = v[0];
	} else if (!strcmp(word, "chain") && n >= 1) {
		im->chain_flags = (uint32_t)v[0];
	} else if (!strcmp(word, "py") && n >= 3 && im->n_python < PYTHON_FRAMES_MAX) {
		im->frame[im->n_python++] = python_frame_pack(v[0], (uint32_t)v[1]) | (v[2] ? PYTHON_FRAME_ENTRY : 0);
	} else {
		return false;
	}
	return true;
}

/* NULL: not there, or a line that is none. The regions' memory is the caller's. */
static inline struct image *image_read(const char *path)
{
	struct image *im = calloc(1, sizeof(*im));
	FILE *in = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;
	bool ok = im && in;

	while (ok && getline(&line, &cap, in) > 0)
		ok = image_line(im, line);
	free(line);
	if (in)
		fclose(in);
	if (ok)
		return im;
	free(im);
	return NULL;
}

#endif
