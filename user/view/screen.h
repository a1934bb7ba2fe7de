/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A screen as a value: cells of text with a role each, no terminal. What is drawn is built here first, so that it can be
 * compared, printed and tested; one function of tui.c paints it. Writing outside of it does nothing.
 */
#ifndef TIDEMARK_VIEW_SCREEN_H
#define TIDEMARK_VIEW_SCREEN_H

#include <stdio.h>
#include <wchar.h>

/* X(id, letter): the letter stands for the role in dumps. */
#define for_each_role(X) \
	X(NORMAL, '.') \
	X(TITLE, 'T') \
	X(SORTED, 'S') \
	X(SELECTED, '>') \
	X(STRONG, 'b') \
	X(DIM, 'd') \
	X(WARN, 'w') \
	X(ALERT, 'A')

enum role {
#define X(id, letter) ROLE_##id,
	for_each_role(X)
#undef X
		ROLE_NR
};

struct cell {
	wchar_t ch;   /* 0: right half of the wide character to the left */
	wchar_t mark; /* combining mark on it; 0: none (a second one is dropped) */
	unsigned char role;
};

struct screen {
	int width, height;
	struct cell *cells; /* height * width */
};

#define SCREEN_WIDTH_MAX 1024
#define SCREEN_HEIGHT_MAX 512

/* All blank. The size is clamped to 1..max. */
struct screen *screen_new(int width, int height);
void screen_free(struct screen *s);

struct cell *screen_cell(struct screen *s, int x, int y); /* NULL: outside */
/* Writes at most `columns` columns; returns the column after the text. What is cut ends in `ellipsis` (0: nothing). */
int screen_put(struct screen *s, int x, int y, int columns, enum role role, wchar_t ellipsis, const char *text);
void screen_role(struct screen *s, int y, enum role role);   /* of a whole row */
void screen_role_letters(const struct screen *s, FILE *out); /* one letter per cell, rows as lines */
void screen_print(const struct screen *s, FILE *out);	     /* rows as lines of UTF-8 without blanks at the end */

#endif
