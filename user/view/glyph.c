/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UTF-8 is decoded here and not by mbrtowc(): names in the target are UTF-8 by custom, whatever our own locale is. Only the
 * question "how wide, and can it be shown at all" goes to the locale.
 */
#include "view/glyph.h"

#include <langinfo.h>
#include <stdint.h>
#include <string.h>

static const struct glyph broken = { .ch = L'?', .columns = 1, .bytes = 1 };

/* One row per length of a sequence: how the first byte looks, and the least value that may take this length. */
static const struct {
	unsigned char mask, lead;
	uint32_t least;
} lengths[] = { { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

/* Invisible characters that reorder or join what follows: a name could pose as another one. */
static bool is_format(uint32_t v)
{
	return (v >= 0x200b && v <= 0x200f) || (v >= 0x2028 && v <= 0x202e) || (v >= 0x2060 && v <= 0x206f) ||
	       v == 0xfeff;
}

struct glyph glyph_next(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	struct glyph g = broken;
	size_t n = 0;

	while (n < 4 && (u[0] & lengths[n].mask) != lengths[n].lead)
		n++;
	if (n == 4)
		return broken;
	uint32_t v = n ? u[0] & ~lengths[n].mask & 0xff : u[0];
	for (size_t i = 1; i <= n; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return broken;
		v = v << 6 | (u[i] & 0x3f);
	}
	if (v < lengths[n].least || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return broken;
	g.bytes = n + 1;
	int columns = wcwidth((wchar_t)v);
	if (columns >= 0 && columns <= 2 && v >= ' ' && !is_format(v)) {
		g.ch = (wchar_t)v;
		g.columns = columns;
	}
	return g;
}

size_t glyph_encode(wchar_t ch, char out[4])
{
	uint32_t v = (uint32_t)ch;
	size_t n = v < 0x80 ? 0 : v < 0x800 ? 1 : v < 0x10000 ? 2 : 3;

	if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return 0;
	for (size_t i = n; i > 0; i--) {
		out[i] = (char)(0x80 | (v & 0x3f));
		v >>= 6;
	}
	out[0] = (char)(lengths[n].lead | v);
	return n + 1;
}

size_t text_columns(const char *s)
{
	size_t columns = 0;

	for (struct glyph g; *s; s += g.bytes) {
		g = glyph_next(s);
		columns += (size_t)g.columns;
	}
	return columns;
}

size_t text_clean(char *out, size_t cap, size_t columns, const char *s)
{
	size_t used = 0, at = 0;
	char utf8[4];

	for (struct glyph g; *s; s += g.bytes) {
		g = glyph_next(s);
		size_t n = glyph_encode(g.ch, utf8);
		if (used + (size_t)g.columns > columns || at + n >= cap)
			break;
		memcpy(out + at, utf8, n);
		at += n;
		used += (size_t)g.columns;
	}
	out[at] = 0;
	return used;
}

void text_print(FILE *out, const char *s)
{
	char utf8[4];

	for (struct glyph g; *s; s += g.bytes) {
		g = glyph_next(s);
		(void)fwrite(utf8, 1, glyph_encode(g.ch, utf8), out); /* the stream remembers */
	}
}

bool locale_is_utf8(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}
