/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writer of JSON lines: one buffer, handed to the stream in big pieces. Knows JSON, nothing of what is printed. */
#include "view/jsonw.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "util/mem.h"

/* Each write wakes the reader, and forgets what jsonw_again could copy; much more than this would not stay in the processor's cache. */
#define FLUSH_BYTES (size_t)262144
#define NUMBER_BYTES 32

void jsonw_init(struct jsonw *w, FILE *out)
{
	*w = (struct jsonw){ .out = out, .turn = 1 };
}

static void flush_buffer(struct jsonw *w)
{
	errno = 0;
	if (!w->err && w->len && fwrite(w->buf, 1, w->len, w->out) != w->len)
		w->err = errno ? -errno : -EIO;
	w->len = 0;
	w->turn++;
}

int jsonw_done(struct jsonw *w)
{
	flush_buffer(w);
	errno = 0;
	if (!w->err && fflush(w->out))
		w->err = errno ? -errno : -EIO;
	free(w->buf);
	w->buf = NULL;
	return w->err;
}

/* Where the next `room` bytes may be written. */
static inline char *reserve(struct jsonw *w, size_t room)
{
	if (__builtin_expect(w->cap - w->len < room, 0))
		w->buf = grow_to(w->buf, &w->cap, w->len + room, 1);
	return w->buf + w->len;
}

static inline void commit(struct jsonw *w, const char *end)
{
	w->len = (size_t)(end - w->buf);
}

/* Comma and key. Returns where the value goes, with `room` bytes for it. */
static inline char *begin_value(struct jsonw *w, const char *key, size_t room)
{
	size_t n = key ? strlen(key) : 0;
	char *p = reserve(w, n + 4 + room);

	if (w->comma)
		*p++ = ',';
	w->comma = true;
	if (key) {
		*p++ = '"';
		p = mempcpy(p, key, n);
		*p++ = '"';
		*p++ = ':';
	}
	return p;
}

static void open_bracket(struct jsonw *w, const char *key, char bracket)
{
	char *p = begin_value(w, key, 1);

	*p++ = bracket;
	commit(w, p);
	w->comma = false;
}

static void close_bracket(struct jsonw *w, char bracket)
{
	char *p = reserve(w, 1);

	*p++ = bracket;
	commit(w, p);
	w->comma = true;
}

void jsonw_object(struct jsonw *w, const char *key)
{
	open_bracket(w, key, '{');
}

void jsonw_object_end(struct jsonw *w)
{
	close_bracket(w, '}');
}

void jsonw_array(struct jsonw *w, const char *key)
{
	open_bracket(w, key, '[');
}

void jsonw_array_end(struct jsonw *w)
{
	close_bracket(w, ']');
}

void jsonw_line_end(struct jsonw *w)
{
	close_bracket(w, '\n');
	w->comma = false;
	if (w->len >= FLUSH_BYTES)
		flush_buffer(w);
}

static void put_word(struct jsonw *w, const char *key, const char *word)
{
	size_t n = strlen(word);

	commit(w, mempcpy(begin_value(w, key, n), word, n));
}

void jsonw_null(struct jsonw *w, const char *key)
{
	put_word(w, key, "null");
}

void jsonw_bool(struct jsonw *w, const char *key, bool v)
{
	put_word(w, key, v ? "true" : "false");
}

static char *put_digits(char *p, uint64_t v, int min_digits)
{
	char digits[20];
	int n = 0;

	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v || n < min_digits);
	while (n)
		*p++ = digits[--n];
	return p;
}

void jsonw_u64(struct jsonw *w, const char *key, uint64_t v)
{
	commit(w, put_digits(begin_value(w, key, NUMBER_BYTES), v, 1));
}

static void put_double(struct jsonw *w, const char *key, double v, int decimals, bool trim)
{
	static const double powers[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6 };
	double scaled = round(fabs(v) * powers[decimals]);

	if (!isfinite(v)) {
		jsonw_null(w, key);
		return;
	}
	if (!(scaled < 0x1p63)) { /* does not fit; at that size decimals tell nothing */
		char text[400];
		snprintf(text, sizeof(text), "%.0f", v);
		put_word(w, key, text);
		return;
	}
	uint64_t all = (uint64_t)scaled, unit = (uint64_t)powers[decimals];
	uint64_t fraction = all % unit;
	char *p = begin_value(w, key, NUMBER_BYTES);
	if (v < 0 && all)
		*p++ = '-';
	p = put_digits(p, all / unit, 1);
	if (trim)
		for (; decimals && fraction % 10 == 0; decimals--)
			fraction /= 10;
	if (decimals) {
		*p++ = '.';
		p = put_digits(p, fraction, decimals);
	}
	commit(w, p);
}

void jsonw_number(struct jsonw *w, const char *key, double v, int decimals)
{
	put_double(w, key, v, decimals, true);
}

void jsonw_fixed(struct jsonw *w, const char *key, double v, int decimals)
{
	put_double(w, key, v, decimals, false);
}

/* Length of the UTF-8 sequence at s, which ends with 0; 0: none stands here. Table 3-7 of the Unicode standard, 15.0. */
static size_t utf8_length(const unsigned char *s)
{
	static const struct {
		unsigned char first, last, second_first, second_last, length;
	} rows[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, /* no surrogates */
		{ 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (s[0] < rows[i].first || s[0] > rows[i].last)
			continue;
		if (s[1] < rows[i].second_first || s[1] > rows[i].second_last)
			return 0;
		for (size_t k = 2; k < rows[i].length; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return rows[i].length;
	}
	return 0;
}

static char *put_escape(char *p, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char named[] = "\bb\ff\nn\rr\tt\"\"\\\\";

	*p++ = '\\';
	for (const char *n = named; *n; n += 2)
		if (c == (unsigned char)*n) {
			*p++ = n[1];
			return p;
		}
	p = mempcpy(p, "u00", 3);
	*p++ = hex[c >> 4];
	*p++ = hex[c & 15];
	return p;
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* One character at *s; moves *s behind it. At most 6 bytes are written per byte read. */
static char *put_char(char *p, const unsigned char **s)
{
	unsigned char c = **s;
	size_t n = c < 0x80 ? 1 : utf8_length(*s);

	if (c < 0x80) {
		if (is_plain(c))
			*p++ = (char)c;
		else
			p = put_escape(p, c);
	} else if (n == 2 && c == 0xc2 && (*s)[1] < 0xa0) {
		p = put_escape(p, (*s)[1]); /* U+0080..U+009F: a terminal may obey these as well */
	} else if (n) {
		p = mempcpy(p, *s, n);
	} else {
		p = mempcpy(p, "\xef\xbf\xbd", 3);
		n = 1;
	}
	*s += n;
	return p;
}

#define EVERY_BYTE(b) ((b)*0x0101010101010101ull)

/*
 * Eight bytes at once: true if all are plain. Each term has the top bit of the lowest byte that is below 0x20, '"', '\\', DEL or
 * above 0x7f; a borrow can set more only above such a byte, so "none at all" is exact.
 */
static inline bool are_plain(uint64_t x)
{
	const uint64_t one = EVERY_BYTE(1);
	uint64_t odd = x | (x - EVERY_BYTE(0x20)) | ((x ^ EVERY_BYTE('"')) - one) | ((x ^ EVERY_BYTE('\\')) - one) |
		       ((x ^ EVERY_BYTE(0x7f)) - one);

	return !(odd & EVERY_BYTE(0x80));
}

/* Copies plain text by eights; the last piece overlaps the one before, which was copied as it is. */
static char *put_text(char *p, const unsigned char *s, size_t n)
{
	const unsigned char *end = s + n;
	uint64_t x;

	for (; end - s >= 8; s += 8, p += 8) {
		memcpy(&x, s, 8);
		if (!are_plain(x))
			break;
		memcpy(p, &x, 8);
	}
	if (n >= 8 && end - s < 8) {
		memcpy(&x, end - 8, 8);
		if (are_plain(x)) {
			p += end - s;
			memcpy(p - 8, &x, 8);
			return p;
		}
	}
	while (s < end)
		p = put_char(p, &s);
	return p;
}

void jsonw_string(struct jsonw *w, const char *key, const char *s)
{
	if (!s) {
		jsonw_null(w, key);
		return;
	}
	size_t n = strlen(s);
	char *p = begin_value(w, key, 6 * n + 2);
	*p++ = '"';
	p = put_text(p, (const unsigned char *)s, n);
	*p++ = '"';
	commit(w, p);
}

/* --- values that come again --- */

static struct jsonw_place *place_of(struct jsonw *w, const void *what)
{
	uint64_t h = (uint64_t)(uintptr_t)what *
		     0x9e3779b97f4a7c15ull; /* Fibonacci hashing: the upper bits are mixed best */

	return &w->places[h / (UINT64_MAX / JSONW_PLACES + 1)];
}

bool jsonw_again(struct jsonw *w, const void *what)
{
	const struct jsonw_place *place = place_of(w, what);

	if (place->what != what || place->turn != w->turn)
		return false;
	char *p = begin_value(w, NULL, place->bytes);
	commit(w, mempcpy(p, w->buf + place->at, place->bytes));
	return true;
}

size_t jsonw_here(const struct jsonw *w)
{
	return w->len + w->comma;
}

void jsonw_remember(struct jsonw *w, const void *what, size_t from)
{
	*place_of(w, what) = (struct jsonw_place){ .what = what, .at = from, .bytes = w->len - from, .turn = w->turn };
}
