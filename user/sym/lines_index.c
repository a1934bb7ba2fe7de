/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/lines_index.h"

#include <dwarf.h>
#include <errno.h>
#include <string.h>

#include "util/mem.h"

#define SPANS_MAX (1u << 19) /* 8 MB */
#define UNITS_MAX (1u << 18)
#define RANGES_PER_DIE_MAX 65536
/* Padding between functions of one unit is bridged: 16 is the usual alignment of functions. */
#define GAP_MAX 16

struct lines_index {
	struct spans spans;
	Dwarf_Off *units; /* offsets of the DIEs */
	size_t n_units, cap_units;
	Dwarf_Off next;
	bool is_complete;
};

struct lines_index *lines_index_new(void)
{
	return xcalloc(1, sizeof(struct lines_index));
}

void lines_index_free(struct lines_index *x)
{
	if (!x)
		return;
	free(x->spans.items);
	free(x->units);
	free(x);
}

bool lines_index_is_complete(const struct lines_index *x)
{
	return x->is_complete;
}

bool spans_add(struct spans *s, uint64_t start, uint64_t end, uint32_t item)
{
	/* What the linker dropped is left behind at 0 or (lld) at the end of the address space. */
	if (!start || end <= start || end - start > UINT32_MAX)
		return true;
	if (s->n >= SPANS_MAX)
		return false;
	struct span *last = s->n ? &s->items[s->n - 1] : NULL;
	if (last && last->item == item && start >= last->start + last->bytes &&
	    start - (last->start + last->bytes) < GAP_MAX && end - last->start <= UINT32_MAX) {
		last->bytes = (uint32_t)(end - last->start);
		return true;
	}
	s->items = grow_to(s->items, &s->cap, s->n + 1, sizeof(*s->items));
	s->items[s->n++] = (struct span){ .start = start, .bytes = (uint32_t)(end - start), .item = item };
	return true;
}

void spans_add_die(struct spans *s, Dwarf_Die *die, uint32_t item)
{
	Dwarf_Addr base, start, end;
	ptrdiff_t at = 0;

	for (size_t i = 0; i < RANGES_PER_DIE_MAX; i++) {
		at = dwarf_ranges(die, at, &base, &start, &end);
		if (at <= 0 || !spans_add(s, start, end, item))
			return;
	}
}

static int by_start(const void *pa, const void *pb)
{
	const struct span *a = pa, *b = pb;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	if (a->bytes != b->bytes)
		return a->bytes > b->bytes ? -1 : 1;
	return a->item < b->item ? -1 : a->item > b->item;
}

void spans_sort(struct spans *s)
{
	if (s->n)
		qsort(s->items, s->n, sizeof(*s->items), by_start);
	s->is_sorted = true;
}

const struct span *spans_find(const struct spans *s, uint64_t addr)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (s->items[mid].start <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	/*
	 * Spans don't overlap in honest files, but for identical code that the linker folded: look a little further
	 * back.
	 */
	for (size_t i = 0; i < 8 && lo-- > 0; i++)
		if (addr - s->items[lo].start < s->items[lo].bytes)
			return &s->items[lo];
	return NULL;
}

/* Units whose contents lie in another file (.dwo) are left out: opening that file would be the target's choice. */
static bool is_usable(Dwarf_Die *cu)
{
	return dwarf_tag(cu) == DW_TAG_compile_unit && !dwarf_hasattr(cu, DW_AT_GNU_dwo_name) &&
	       !dwarf_hasattr(cu, DW_AT_dwo_name);
}

static void add_unit(struct lines_index *x, Dwarf *dw, Dwarf_Off off)
{
	Dwarf_Die cu;

	if (!dwarf_offdie(dw, off, &cu) || !is_usable(&cu))
		return;
	size_t before = x->spans.n;
	spans_add_die(&x->spans, &cu, (uint32_t)x->n_units);
	if (x->spans.n == before)
		return;
	x->units = grow_to(x->units, &x->cap_units, x->n_units + 1, sizeof(*x->units));
	x->units[x->n_units++] = off;
}

static int finish(struct lines_index *x)
{
	spans_sort(&x->spans);
	x->is_complete = true;
	return 0;
}

int lines_index_step(struct lines_index *x, Dwarf *dw, size_t units)
{
	while (!x->is_complete && units-- > 0) {
		Dwarf_Off next;
		size_t header;
		Dwarf_Half version;
		/* -1 (broken) ends it as 1 (no more) does: what was read so far is used. */
		if (x->n_units >= UNITS_MAX ||
		    dwarf_next_unit(dw, x->next, &next, &header, &version, NULL, NULL, NULL, NULL, NULL) != 0)
			return finish(x);
		if (next <= x->next)
			return finish(x);
		add_unit(x, dw, x->next + header);
		x->next = next;
	}
	return x->is_complete ? 0 : -EAGAIN;
}

int lines_index_find(const struct lines_index *x, uint64_t addr, Dwarf_Off *ret)
{
	const struct span *s = spans_find(&x->spans, addr);

	if (!s)
		return -ENOENT;
	*ret = x->units[s->item];
	return 0;
}
