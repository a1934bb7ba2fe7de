/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	.eh_frame                                   .debug_frame
 *	length  4 (or 0xffffffff and 8)             the same
 *	id      4: 0 a CIE; else the distance       4 or 8 as the length: all ones a CIE; else
 *	           back to its CIE                     its offset in the section
 *	...                                         ...
 *
 * Two walks over the entries: CIEs first, then FDEs, because .debug_frame may name a CIE that follows. Only a CIE that the walk comes by counts:
 * each byte is in one entry, so that all programs together are no longer than the section, however entries refer to each other.
 */
#include "probe/cfi_entry.h"

#include <dwarf.h>
#include <errno.h>

#include "util/mem.h"

struct entry {
	uint32_t offset; /* of its length */
	uint64_t cie;	 /* FDE: offset of its CIE */
	bool is_cie;
	struct cfi_bytes body; /* behind the id; bad: no room for one */
};

enum walk { WALK_ENTRY, WALK_END, WALK_BROKEN };

static uint64_t vaddr_of(const struct cfi_section *s, const uint8_t *at)
{
	return s->vaddr + (uint64_t)(at - s->data);
}

/* The id field. In .eh_frame it has 4 bytes even behind a length of 64 bits (Linux Standard Base, "The Common Information Entry Format"). */
static void read_id(const struct cfi_section *s, bool is_64, struct entry *e)
{
	uint64_t at = (uint64_t)(e->body.at - s->data);
	unsigned int bytes = is_64 && !s->is_eh ? 8 : 4;
	uint64_t id = bytes_unsigned(&e->body, bytes);

	if (s->is_eh) {
		e->is_cie = !id;
		e->cie = at - id; /* wraps: then no CIE is there */
	} else {
		e->is_cie = id == (bytes == 8 ? UINT64_MAX : UINT32_MAX);
		e->cie = id;
	}
}

static enum walk next_entry(const struct cfi_section *s, struct cfi_bytes *in, struct entry *ret)
{
	uint64_t length = 0;

	do {
		*ret = (struct entry){ .offset = (uint32_t)(in->at - s->data) };
		if (!bytes_left(in))
			return WALK_END;
		length = bytes_unsigned(in, 4);
		/* Linkers leave terminators of their inputs in the middle. */
	} while (!length && !in->is_bad && !s->stops_at_zero);
	if (!length)
		return in->is_bad ? WALK_BROKEN : WALK_END;
	bool is_64 = length == UINT32_MAX;
	if (is_64)
		length = bytes_unsigned(in, 8);
	else if (length >= DWARF3_LENGTH_MIN_ESCAPE_CODE)
		return WALK_BROKEN;
	const uint8_t *body = bytes_take(in, length);
	if (in->is_bad || !body)
		return WALK_BROKEN;
	ret->body = (struct cfi_bytes){ .at = body, .end = body + length };
	read_id(s, is_64, ret);
	return WALK_ENTRY;
}

/* The letters of an augmentation; in: where their data lie. False: one is not known, and how much data it has neither. */
static bool read_letters(const struct cfi_section *s, const char *letters, struct cfi_bytes *in, struct cfi_cie *cie)
{
	for (; *letters; letters++) {
		if (*letters == 'L') {
			(void)bytes_unsigned(in,
					     1); /* how a pointer in the FDE is written that we skip with its data */
		} else if (*letters == 'R') {
			cie->encoding = (uint8_t)bytes_unsigned(in, 1);
		} else if (*letters == 'P') {
			uint8_t encoding = (uint8_t)bytes_unsigned(in, 1);
			if (encoding != DW_EH_PE_omit)
				(void)bytes_pointer_raw(in, encoding, vaddr_of(s, in->at));
		} else if (*letters == 'S') {
			cie->is_signal = true;
		} else if (*letters != 'B') {
			return cie->has_data;
		}
	}
	return !in->is_bad;
}

static bool read_augmentation(const struct cfi_section *s, const char *letters, struct cfi_bytes *in,
			      struct cfi_cie *cie)
{
	struct cfi_bytes *data = in, sized;

	if (*letters == 'z') {
		letters++;
		cie->has_data = true;
		uint64_t n = bytes_uleb(in);
		const uint8_t *at = bytes_take(in, n);
		if (!at)
			return false;
		sized = (struct cfi_bytes){ .at = at, .end = at + n };
		data = &sized;
	}
	return read_letters(s, letters, data, cie);
}

static bool parse_cie(const struct cfi_section *s, struct cfi_bytes in, struct cfi_cie *cie)
{
	uint8_t version = (uint8_t)bytes_unsigned(&in, 1);
	const char *letters = (const char *)in.at;
	const uint8_t *end = memchr(in.at, 0, bytes_left(&in));

	if (!end || (version != 1 && version != 3 && version != 4))
		return false;
	in.at = end + 1;
	if (!strncmp(letters, "eh", 2)) {
		(void)bytes_unsigned(&in, 8); /* gcc 2's table of handlers */
		letters += 2;
	}
	/* Size of addresses 8, of segment selectors 0. */
	if (version == 4 && bytes_unsigned(&in, 2) != 8)
		return false;
	cie->code_align = bytes_uleb(&in);
	cie->data_align = bytes_sleb(&in);
	uint64_t ra = version == 1 ? bytes_unsigned(&in, 1) : bytes_uleb(&in);
	if (ra != CFI_REG_RA || !read_augmentation(s, letters, &in, cie) || in.is_bad)
		return false;
	return cfi_exec_cie(in, s, cie);
}

static int collect_cies(const struct cfi_section *s, struct cfi_entries *ret)
{
	struct cfi_bytes in = { .at = s->data, .end = s->data + s->bytes };
	struct entry e;
	size_t cap = 0;
	enum walk w;

	while ((w = next_entry(s, &in, &e)) == WALK_ENTRY) {
		if (!e.is_cie || e.body.is_bad)
			continue;
		if (ret->n_cies == CFI_CIES_MAX)
			return -EFBIG;
		ret->cies = grow_to(ret->cies, &cap, ret->n_cies + 1, sizeof(*ret->cies));
		struct cfi_cie *cie = &ret->cies[ret->n_cies++];
		*cie = (struct cfi_cie){ .offset = e.offset };
		cie->is_broken = !parse_cie(s, e.body, cie);
		ret->n_broken += cie->is_broken;
	}
	ret->n_broken += w == WALK_BROKEN; /* once: the other walk ends at the same place */
	return 0;
}

/* Most name the CIE of the one before. */
static const struct cfi_cie *find_cie(const struct cfi_entries *e, uint64_t offset, const struct cfi_cie *before)
{
	size_t lo = 0, hi = e->n_cies;

	if (before && before->offset == offset)
		return before;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (e->cies[mid].offset == offset)
			return &e->cies[mid];
		if (e->cies[mid].offset < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static bool parse_fde(const struct cfi_section *s, const struct cfi_cie *cie, struct cfi_bytes in, struct cfi_fde *ret)
{
	uint64_t start = bytes_pointer(&in, cie->encoding, vaddr_of(s, in.at), 0);
	uint64_t bytes = bytes_pointer_raw(&in, cie->encoding, vaddr_of(s, in.at));

	if (cie->has_data)
		(void)bytes_take(&in, bytes_uleb(&in));
	if (in.is_bad || __builtin_add_overflow(start, bytes, &ret->end))
		return false;
	ret->start = start;
	ret->program = (uint32_t)(in.at - s->data);
	ret->program_end = (uint32_t)(in.end - s->data);
	return true;
}

static int by_start(const void *pa, const void *pb)
{
	const struct cfi_fde *a = pa, *b = pb;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static int collect_fdes(const struct cfi_section *s, const struct cfi_image *im, struct cfi_entries *ret)
{
	struct cfi_bytes in = { .at = s->data, .end = s->data + s->bytes };
	const struct cfi_cie *cie = NULL;
	bool is_sorted = true;
	struct entry e;
	size_t cap = 0;

	while (next_entry(s, &in, &e) == WALK_ENTRY) {
		struct cfi_fde fde = { .order = (uint32_t)ret->n_fdes };
		if (e.is_cie && !e.body.is_bad)
			continue;
		cie = e.body.is_bad ? NULL : find_cie(ret, e.cie, cie);
		if (!cie || cie->is_broken || !parse_fde(s, cie, e.body, &fde)) {
			ret->n_broken++;
			continue;
		}
		if (fde.start == fde.end)
			continue;
		if (!cfi_image_is_code(im, fde.start, fde.end)) {
			/* In .debug_frame, functions that the linker dropped stay behind at address 0. */
			ret->n_broken += s->is_eh;
			continue;
		}
		if (ret->n_fdes == CFI_FDES_MAX)
			return -EFBIG;
		fde.cie = (uint32_t)(cie - ret->cies);
		is_sorted &= !ret->n_fdes || ret->fdes[ret->n_fdes - 1].start <= fde.start;
		ret->fdes = grow_to(ret->fdes, &cap, ret->n_fdes + 1, sizeof(*ret->fdes));
		ret->fdes[ret->n_fdes++] = fde;
	}
	if (!is_sorted)
		qsort(ret->fdes, ret->n_fdes, sizeof(*ret->fdes), by_start);
	return 0;
}

int cfi_entries_build(const struct cfi_section *s, const struct cfi_image *im, struct cfi_entries *ret)
{
	struct cfi_entries e = { 0 };
	int err = collect_cies(s, &e);

	if (!err)
		err = collect_fdes(s, im, &e);
	if (err) {
		cfi_entries_done(&e);
		return err;
	}
	*ret = e;
	return 0;
}

void cfi_entries_done(struct cfi_entries *e)
{
	free(e->cies);
	free(e->fdes);
	*e = (struct cfi_entries){ 0 };
}
