/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rows of `tidemark probes` as a table for people and as JSON lines. Decides nothing: plans and costs come as
 * they are.
 */
#include "view/probes.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/mem.h"
#include "view/jsonw.h"

#define COLUMNS 9

static const char *const layer_names[] = {
#define X(id, name) name,
	for_each_layer(X)
#undef X
};

static const char *const shape_names[] = {
#define X(id, name, roles) name,
	for_each_shape(X)
#undef X
};

/* A path may hold anything but 0: no control character of it reaches a terminal. */
static void print_clean(FILE *out, const char *s)
{
	for (; *s; s++)
		fputc((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s, out);
}

static void format_ns(char *buf, size_t cap, double ns)
{
	if (isnan(ns))
		(void)snprintf(buf, cap, "-");
	else if (ns < 1000)
		(void)snprintf(buf, cap, "%.0f ns", ns);
	else
		(void)snprintf(buf, cap, "%.1f us", ns / 1000);
}

/* All that one call costs; NAN: a part of it is not known. */
static double call_ns(const struct probe_row *r)
{
	bool returns = strcmp(r->return_how, "none") != 0;

	return r->plan->planned ? r->entry_ns + (returns ? r->return_ns : 0) + r->body_ns : NAN;
}

/* Nanoseconds each are milliseconds for a million. */
static void format_million(char *buf, size_t cap, double ns)
{
	if (isnan(ns))
		(void)snprintf(buf, cap, "-");
	else
		(void)snprintf(buf, cap, ns < 9995 ? "%.2f s" : "%.1f s", ns / 1000);
}

struct text_row {
	char cell[COLUMNS][96];
};

static struct text_row text_of(const struct probe_row *r)
{
	const struct plan *p = r->plan;
	struct text_row t = { 0 };
	char ns[32];

	(void)snprintf(t.cell[0], sizeof(t.cell[0]), "%s", p->symbol);
	(void)snprintf(t.cell[1], sizeof(t.cell[1]), "+%u", p->insn_delta);
	(void)snprintf(t.cell[2], sizeof(t.cell[2]), "%s", p->insn);
	(void)snprintf(t.cell[3], sizeof(t.cell[3]), "%s", insn_kind_name(p->kind));
	(void)snprintf(t.cell[5], sizeof(t.cell[5]), "-");
	(void)snprintf(t.cell[8], sizeof(t.cell[8]), "%s", shape_names[p->shape]);
	format_ns(t.cell[4], sizeof(t.cell[4]), p->planned ? r->entry_ns : NAN);
	format_ns(t.cell[6], sizeof(t.cell[6]), p->planned ? r->body_ns : NAN);
	format_million(t.cell[7], sizeof(t.cell[7]), call_ns(r));
	if (!p->planned || !strcmp(r->return_how, "none"))
		return t;
	format_ns(ns, sizeof(ns), r->return_ns);
	(void)snprintf(t.cell[5], sizeof(t.cell[5]), "%s %s", r->return_how, ns);
	return t;
}

static const struct text_row headings = { { "FUNCTION", "AT", "INSTRUCTION", "KIND", "ENTRY", "RETURN", "PROGRAM",
					    "1M CALLS", "SHAPE" } };

static void widen(int width[COLUMNS], const struct text_row *t)
{
	for (int i = 0; i < COLUMNS; i++)
		if ((int)strlen(t->cell[i]) > width[i])
			width[i] = (int)strlen(t->cell[i]);
}

static void print_cells(FILE *out, const int width[COLUMNS], const struct text_row *t, const char *last)
{
	for (int i = 0; i < COLUMNS; i++)
		fprintf(out, "  %-*s", width[i], t->cell[i]);
	fprintf(out, "  %s\n", last);
}

static bool same_file(const struct probe_row *a, const struct probe_row *b)
{
	return a->pid == b->pid && !strcmp(a->module, b->module);
}

static void print_file(FILE *out, const struct probe_row *r)
{
	fprintf(out, "pid %u  ", r->pid);
	print_clean(out, r->module);
	fprintf(out, "  build id %s\n", r->build_id ? r->build_id : "unknown");
	if (r->gate_why)
		fprintf(out, "  ! no return probes: %s\n", r->gate_why);
}

static void print_row(FILE *out, const int width[COLUMNS], const struct probe_row *r)
{
	struct text_row t = text_of(r);
	char why[sizeof(r->plan->why) + 16];

	(void)snprintf(why, sizeof(why), "%s%s", r->plan->planned ? "" : "not probed: ", r->plan->why);
	print_cells(out, width, &t, why);
	for (size_t i = 0; i < ARRAY_SIZE(r->plan->hazards) && r->plan->planned; i++)
		if (r->plan->hazards[i][0])
			fprintf(out, "    ! %s\n", r->plan->hazards[i]);
}

static int finish(FILE *out)
{
	errno = 0;
	if (fflush(out) == 0 && !ferror(out))
		return 0;
	return errno ? -errno : -EIO;
}

int probes_print_text(FILE *out, const struct probe_row *rows, size_t n)
{
	int width[COLUMNS] = { 0 };

	if (!n) {
		fputs("no allocation functions found\n", out);
		return finish(out);
	}
	widen(width, &headings);
	for (size_t i = 0; i < n; i++) {
		struct text_row t = text_of(&rows[i]);

		widen(width, &t);
	}
	print_cells(out, width, &headings, "WHY");
	for (size_t i = 0; i < n; i++) {
		if (!i || !same_file(&rows[i - 1], &rows[i]))
			print_file(out, &rows[i]);
		print_row(out, width, &rows[i]);
	}
	return finish(out);
}

static void json_hazards(struct jsonw *w, const struct probe_row *r)
{
	jsonw_array(w, "hazards");
	for (size_t i = 0; i < ARRAY_SIZE(r->plan->hazards); i++)
		if (r->plan->hazards[i][0])
			jsonw_string(w, NULL, r->plan->hazards[i]);
	if (r->gate_why)
		jsonw_string(w, NULL, r->gate_why);
	jsonw_array_end(w);
}

static void json_row(struct jsonw *w, const struct probe_row *r, double ts)
{
	const struct plan *p = r->plan;

	jsonw_object(w, NULL);
	jsonw_string(w, "type", "probe");
	jsonw_u64(w, "v", 1);
	jsonw_fixed(w, "ts", ts, 3);
	jsonw_u64(w, "pid", r->pid);
	jsonw_string(w, "layer", layer_names[p->func->layer]);
	jsonw_string(w, "family", p->func->family);
	jsonw_string(w, "module", r->module);
	jsonw_string(w, "build_id", r->build_id);
	jsonw_string(w, "symbol", p->symbol);
	jsonw_string(w, "site", p->func->site);
	jsonw_u64(w, "offset", p->probe_offset);
	jsonw_u64(w, "insn_delta", p->insn_delta);
	jsonw_string(w, "insn", p->insn);
	jsonw_string(w, "kind", insn_kind_name(p->kind));
	jsonw_number(w, "entry_ns", r->entry_ns, 1);
	jsonw_string(w, "return_how", r->return_how);
	jsonw_number(w, "return_ns", r->return_ns, 1);
	jsonw_number(w, "body_ns", r->body_ns, 1);
	jsonw_number(w, "call_ns", call_ns(r), 1);
	jsonw_string(w, "shape", shape_names[p->shape]);
	jsonw_bool(w, "planned", p->planned);
	jsonw_string(w, "why", p->why);
	json_hazards(w, r);
	jsonw_object_end(w);
	jsonw_line_end(w);
}

int probes_print_json(FILE *out, const struct probe_row *rows, size_t n)
{
	double ts = unix_seconds();
	struct jsonw w;

	jsonw_init(&w, out);
	for (size_t i = 0; i < n; i++)
		json_row(&w, &rows[i], ts);
	return jsonw_done(&w);
}

int costs_print_text(FILE *out, const struct probe_cost *costs, size_t n, bool fresh)
{
	const char *before = fresh ? ", measured now: " : ", measured earlier since it was booted: ";
	char ns[32];

	if (!n) {
		fputs("\nwhat a hit costs on this machine could not be measured\n", out);
		return finish(out);
	}
	fputs("\ncosts here, in CPU time of the caller", out);
	for (size_t i = 0; i < n; i++) {
		if (isnan(costs[i].ns))
			continue;
		format_ns(ns, sizeof(ns), costs[i].ns);
		fprintf(out, "%s%s %s", before, costs[i].label, ns);
		before = ", ";
	}
	fputs("\na call that is counted costs ENTRY + RETURN + PROGRAM; 1M CALLS is that a million times\n", out);
	return finish(out);
}

int costs_print_json(FILE *out, const struct probe_cost *costs, size_t n, bool fresh)
{
	struct jsonw w;

	jsonw_init(&w, out);
	jsonw_object(&w, NULL);
	jsonw_string(&w, "type", "costs");
	jsonw_u64(&w, "v", 1);
	jsonw_fixed(&w, "ts", unix_seconds(), 3);
	jsonw_bool(&w, "known", n > 0);
	jsonw_bool(&w, "fresh", fresh);
	for (size_t i = 0; i < n; i++)
		jsonw_number(&w, costs[i].key, costs[i].ns, 1);
	jsonw_object_end(&w);
	jsonw_line_end(&w);
	return jsonw_done(&w);
}
