/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/screen.h"

#include <stdbool.h>

#include "util/mem.h"
#include "view/glyph.h"

static int clamp(int v, int max)
{
	return v < 1 ? 1 : v > max ? max : v;
}

struct screen *screen_new(int width, int height)
{
	struct screen *s = xcalloc(1, sizeof(*s));

	s->width = clamp(width, SCREEN_WIDTH_MAX);
	s->height = clamp(height, SCREEN_HEIGHT_MAX);
	size_t n = (size_t)s->width * (size_t)s->height;
	s->cells = xcalloc(n, sizeof(*s->cells));
	for (size_t i = 0; i < n; i++)
		s->cells[i].ch = L' ';
	return s;
}

void screen_free(struct screen *s)
{
	if (!s)
		return;
	free(s->cells);
	free(s);
}

struct cell *screen_cell(struct screen *s, int x, int y)
{
	bool inside = x >= 0 && y >= 0 && x < s->width && y < s->height;

	return inside ? &s->cells[(size_t)y * (size_t)s->width + (size_t)x] : NULL;
}

static void put_glyph(struct screen *s, int x, int y, enum role role, wchar_t ch, int columns)
{
	struct cell *c = screen_cell(s, x, y), *right = screen_cell(s, x + 1, y);

	if (!c)
		return;
	*c = (struct cell){ .ch = columns == 2 && !right ? L' ' : ch, .role = (unsigned char)role };
	if (columns == 2 && right)
		*right = (struct cell){ .ch = 0, .role = (unsigned char)role };
}

static void put_mark(struct screen *s, int x, int y, wchar_t mark)
{
	struct cell *c = screen_cell(s, x, y);

	if (c && !c->ch)
		c = screen_cell(s, x - 1, y);
	if (c && !c->mark)
		c->mark = mark;
}

int screen_put(struct screen *s, int x, int y, int columns, enum role role, wchar_t ellipsis, const char *text)
{
	int first = x, end = x + columns < s->width ? x + columns : s->width;
	/* Cut text gives its last column to the ellipsis. */
	bool is_cut = end > x && text_columns(text) > (size_t)(end - x);
	int stop = is_cut && ellipsis ? end - 1 : end;

	for (struct glyph g; *text; text += g.bytes) {
		g = glyph_next(text);
		if (x + g.columns > stop)
			break;
		if (g.columns)
			put_glyph(s, x, y, role, g.ch, g.columns);
		else if (x > first)
			put_mark(s, x - 1, y, g.ch);
		x += g.columns;
	}
	if (*text && stop < end) {
		put_glyph(s, x, y, role, ellipsis, 1);
		x++;
	}
	return x;
}

void screen_role(struct screen *s, int y, enum role role)
{
	for (int x = 0; x < s->width; x++) {
		struct cell *c = screen_cell(s, x, y);

		if (c)
			c->role = (unsigned char)role;
	}
}

void screen_role_letters(const struct screen *s, FILE *out)
{
	static const char letters[] = {
#define X(id, letter) letter,
		for_each_role(X)
#undef X
	};
	const struct cell *c = s->cells;

	for (int y = 0; y < s->height; y++) {
		for (int x = 0; x < s->width; x++, c++)
			(void)fputc(letters[c->role], out); /* the caller asks ferror() */
		(void)fputc('\n', out);
	}
}

static void print_char(wchar_t ch, FILE *out)
{
	char utf8[4];

	(void)fwrite(utf8, 1, glyph_encode(ch, utf8), out); /* the caller asks ferror() */
}

void screen_print(const struct screen *s, FILE *out)
{
	const struct cell *row = s->cells;

	for (int y = 0; y < s->height; y++, row += s->width) {
		int n = s->width;

		while (n > 0 && row[n - 1].ch == L' ')
			n--;
		for (int x = 0; x < n; x++) {
			if (row[x].ch)
				print_char(row[x].ch, out);
			if (row[x].mark)
				print_char(row[x].mark, out);
		}
		(void)fputc('\n', out);
	}
}
