/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/images.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#include "collect/layouts.h"
#include "target/proc.h"
#include "tables.h"
#include "util/mem.h"

/* The layout that a process was given last; it holds a reference on it. */
struct held {
	uint32_t account;
	uint64_t layout;
	UT_hash_handle hh;
};

struct image {
	uint32_t number;
	uint32_t slot; /* in the kernel's table of runtimes; 0: none */
	struct py_process python;
	const char *refused;
	uint64_t looked_at; /* hash of the mappings that held no interpreter; 0: not known */
	UT_hash_handle hh;
};

struct images {
	struct accounts *accounts;
	struct unwind_tables *unwind;
	struct layouts *layouts;
	struct python_info *slots; /* PYTHON_INFOS, the kernel's; 0 stands for none */
	struct held *held;
	struct image *images;
};

struct images *images_new(struct loader *l, struct accounts *a)
{
	struct images *im = xcalloc(1, sizeof(*im));
	struct unwind_area area = loader_unwind_area(l);

	im->accounts = a;
	im->unwind = unwind_new(&area);
	im->layouts = layouts_new(im->unwind);
	im->slots = loader_pythons(l);
	return im;
}

void images_free(struct images *im)
{
	struct held *h, *h_next;
	struct image *i, *i_next;

	if (!im)
		return;
	HASH_ITER(hh, im->held, h, h_next) {
		HASH_DEL(im->held, h);
		free(h);
	}
	HASH_ITER(hh, im->images, i, i_next) {
		HASH_DEL(im->images, i);
		free(i);
	}
	layouts_free(im->layouts);
	unwind_free(im->unwind);
	free(im);
}

static struct held *held_of(struct images *im, uint32_t account)
{
	struct held *h = NULL;

	HASH_FIND(hh, im->held, &account, sizeof(account), h);
	if (h)
		return h;
	h = xcalloc(1, sizeof(*h));
	h->account = account;
	HASH_ADD(hh, im->held, account, sizeof(h->account), h);
	return h;
}

/* Takes over the caller's reference. */
static void hold(struct images *im, uint32_t account, uint64_t layout)
{
	struct held *h = held_of(im, account);

	if (h->layout)
		unwind_drop_ranges(im->unwind, h->layout);
	h->layout = layout;
}

static struct image *image_find(const struct images *im, uint32_t number)
{
	struct image *i = NULL;

	HASH_FIND(hh, im->images, &number, sizeof(number), i);
	return i;
}

static struct image *image_of(struct images *im, uint32_t number)
{
	struct image *i = image_find(im, number);

	if (i)
		return i;
	i = xcalloc(1, sizeof(*i));
	i->number = number;
	HASH_ADD(hh, im->images, number, sizeof(i->number), i);
	return i;
}

/* A free place in the kernel's table; 0: it is full, and the image's stacks stay native. */
static uint32_t slot_take(struct images *im, const struct python_info *info)
{
	for (uint32_t i = 1; i < PYTHON_INFOS; i++) {
		if (im->slots[i].runtime)
			continue;
		uint64_t runtime = info->runtime;
		im->slots[i] = *info;
		im->slots[i].runtime = 0;
		__atomic_store_n(&im->slots[i].runtime, runtime,
				 __ATOMIC_RELEASE); /* last: it says that the rest is there */
		return i;
	}
	return 0;
}

/* What an interpreter could be in. */
static uint64_t code_hash(const struct mappings *maps)
{
	uint64_t h = 1;

	for (size_t i = 0; i < maps->n; i++)
		if (maps->items[i].exec && maps->items[i].inode)
			h = table_mix(table_mix(h, maps->items[i].start), maps->items[i].inode);
	return h ? h : 1;
}

/* Every file is opened for it: not for mappings that were looked at before. */
static void find_python(struct images *im, struct image *i, const struct proc_key *id, const struct mappings *maps)
{
	uint64_t hash = code_hash(maps);

	if (i->slot || i->looked_at == hash)
		return;
	int err = pyinfo_find(id->pid, maps, &i->python, &i->refused);
	if (err != -EAGAIN) /* its memory is not there yet */
		i->looked_at = hash;
	if (err)
		return;
	i->refused = NULL;
	i->slot = slot_take(im, &i->python.info);
}

static void scan_python(struct images *im, uint32_t account, const struct proc_key *id, const struct mappings *maps)
{
	struct image *i = image_of(im, id->image);

	find_python(im, i, id, maps);
	/* Also that there is none: an exec between the look at the account and the write may have left the old image's here. */
	accounts_set_python(im->accounts, account, i->slot);
}

void images_scan(struct images *im, uint32_t account, const struct proc_key *id, const struct mappings *maps)
{
	uint64_t before = held_of(im, account)->layout, layout = layouts_take(im->layouts, id->pid, maps);

	scan_python(im, account, id, maps); /* first: from the first whole stack on it has its Python part */
	accounts_set_layout(im->accounts, account, layout);
	hold(im, account, layout);
	if (layout != before)
		accounts_answer(im->accounts, account);
}

void images_born(struct images *im, uint32_t account)
{
	const struct proc *p = accounts_get(im->accounts, account);

	if (!p || !p->layout || held_of(im, account)->layout)
		return;
	unwind_hold_ranges(im->unwind, p->layout);
	hold(im, account, p->layout);
}

void images_ended(struct images *im, uint32_t account)
{
	struct held *h = NULL;

	HASH_FIND(hh, im->held, &account, sizeof(account), h);
	if (!h)
		return;
	if (h->layout)
		unwind_drop_ranges(im->unwind, h->layout);
	HASH_DEL(im->held, h);
	free(h);
}

void images_forget(struct images *im, uint32_t image)
{
	struct image *i = image_find(im, image);

	if (!i)
		return;
	if (i->slot)
		im->slots[i->slot].runtime = 0;
	HASH_DEL(im->images, i);
	free(i);
}

void images_settle(struct images *im)
{
	for (struct held *h = im->held; h; h = h->hh.next)
		accounts_answer(im->accounts, h->account);
	unwind_settle(im->unwind);
}

const struct py_process *images_python(const struct images *im, uint32_t image)
{
	const struct image *i = image_find(im, image);

	return i && i->slot ? &i->python : NULL;
}

const char *images_python_refused(const struct images *im, uint32_t image)
{
	const struct image *i = image_find(im, image);

	return i ? i->refused : NULL;
}

struct unwind_stats images_unwind_stats(const struct images *im)
{
	return unwind_stats(im->unwind);
}
