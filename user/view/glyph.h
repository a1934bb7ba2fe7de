/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text of a target on a person's screen: UTF-8 taken apart, measured in columns and made harmless. Control characters (a process
 * may name itself with escape sequences), broken UTF-8 and what the locale cannot show become '?'.
 */
#ifndef TIDEMARK_VIEW_GLYPH_H
#define TIDEMARK_VIEW_GLYPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <wchar.h>

struct glyph {
	wchar_t ch;
	int columns; /* 0 (combining), 1 or 2 */
	size_t bytes;
};

/* The next character of s, which is not at its end. Widths are those of the locale. */
struct glyph glyph_next(const char *s);
size_t glyph_encode(wchar_t ch, char out[4]); /* UTF-8, not terminated; returns its bytes, 0: no character */
size_t text_columns(const char *s);
/* Harmless copy of s of at most `cap - 1` bytes and `columns` columns, whole characters only; returns its columns. */
size_t text_clean(char *out, size_t cap, size_t columns, const char *s);
/* The whole of s, harmless; whether it was written is told by the stream. */
void text_print(FILE *out, const char *s);
/* The locale's character set is UTF-8: block elements can be shown. */
bool locale_is_utf8(void);

#endif
