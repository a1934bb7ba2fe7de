/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/ahead.h"

#include <stdlib.h>

#include "sym/sym.h"
#include "util/mem.h"

static int by_place(const void *a, const void *b)
{
	const struct snap_frame *x = *(const struct snap_frame *const *)a, *y = *(const struct snap_frame *const *)b;

	if (x->module != y->module)
		return x->module < y->module ? -1 : 1;
	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return x->is_return - y->is_return;
}

void sym_name_ahead(struct sym *s, const struct snap_stackdef *defs, size_t n)
{
	size_t frames = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		frames += defs[i].n_frames;
	_cleanup_(freep) const struct snap_frame **list = xcalloc(frames, sizeof(*list));
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < defs[i].n_frames; k++)
			list[at++] = &defs[i].frames[k];
	if (frames)
		qsort(list, frames, sizeof(*list), by_place);
	for (size_t i = 0; i < frames; i++) {
		const struct sym_frame *unused;
		if (!i || by_place(&list[i - 1], &list[i]))
			(void)sym_resolve(s, list[i], &unused); /* kept by sym */
	}
}
