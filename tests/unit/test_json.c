/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON lines against the contract: all fields, one order, unknown is null, and nothing that json-c would not read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <json-c/json.h>

#include "report_fixture.h"
#include "util/clock.h"
#include "util/mem.h"
#include "view/view.h"

#define MAX_LINES 64

struct lines {
	char *text;
	struct json_object *items[MAX_LINES];
	size_t n;
};

static struct json_object *parse(const char *line, size_t len)
{
	struct json_tokener *t = json_tokener_new();

	/* json-c 0.18, when strict, refuses every byte above 0x7f (its issue 892). */
	json_tokener_set_flags(t,
			       JSON_TOKENER_VALIDATE_UTF8 | (json_c_version_num() == 0x1200 ? 0 : JSON_TOKENER_STRICT));
	struct json_object *o = json_tokener_parse_ex(t, line, (int)len);
	if (!o || json_tokener_get_parse_end(t) != len)
		fail_msg("not one JSON value (%s): %.*s", json_tokener_error_desc(json_tokener_get_error(t)), (int)len,
			 line);
	json_tokener_free(t);
	return o;
}

static void lines_done(struct lines *l)
{
	for (size_t i = 0; i < l->n; i++)
		json_object_put(l->items[i]);
	free(l->text);
}

static void lines_parse(struct lines *l)
{
	for (char *s = l->text, *end; *s; s = end + 1) {
		end = strchr(s, '\n');
		assert_non_null(end); /* also the last line is ended */
		assert_true(l->n < MAX_LINES);
		l->items[l->n++] = parse(s, (size_t)(end - s));
	}
}

static struct lines show(const struct report *r)
{
	struct lines l = { 0 };
	size_t len;
	FILE *out = open_memstream(&l.text, &len);

	assert_int_equal(view_json.show(out, r), 0);
	assert_int_equal(fclose(out), 0);
	lines_parse(&l);
	return l;
}

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no field '%s' in %s", key, json_object_to_json_string(o));
	return v;
}

static const char *text_of(struct json_object *o, const char *key)
{
	return json_object_get_string(get(o, key));
}

static uint64_t u64_of(struct json_object *o, const char *key)
{
	assert_int_equal(json_object_get_type(get(o, key)), json_type_int);
	return json_object_get_uint64(get(o, key));
}

static void assert_null_field(struct json_object *o, const char *key)
{
	if (get(o, key))
		fail_msg("'%s' is %s, not null", key, text_of(o, key));
}

/* Line number i of a type. */
static struct json_object *line_of(const struct lines *l, const char *type, size_t i)
{
	for (size_t k = 0; k < l->n; k++)
		if (!strcmp(text_of(l->items[k], "type"), type) && !i--)
			return l->items[k];
	fail_msg("no such line: %s", type);
	return NULL;
}

/* `keys`: exactly these, separated by blanks. */
static void assert_keys(struct json_object *o, const char *keys)
{
	_cleanup_(freep) char *copy = xstrdup(keys);
	char *save, *key;
	int n = 0;

	for (key = strtok_r(copy, " ", &save); key; key = strtok_r(NULL, " ", &save), n++)
		(void)get(o, key);
	if (json_object_object_length(o) != n)
		fail_msg("%d fields instead of %d: %s", json_object_object_length(o), n, json_object_to_json_string(o));
}

#define COUNTS \
	"live_bytes live_bytes_se live_count peak_live_bytes alloc_bytes_total alloc_bytes_total_se " \
	"alloc_count_total " \
	"free_bytes_total free_count_total alloc_bytes_per_s allocs_per_s untracked_bytes untracked_count"

static void every_field_is_there(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct lines l = show(r);

	(void)state;
	assert_keys(line_of(&l, "proc", 0), "type v ts pid start_ts ppid comm cmdline cgroup python python_unsupported "
					    "python_allocator python_coverage state mode "
					    "attached_share overhead_pct lever rss_bytes "
					    "anon_bytes file_bytes shmem_bytes swap_bytes limit_bytes limit_eta_s "
					    "growth_bytes_per_s layers losses");
	assert_keys(get(line_of(&l, "proc", 0), "layers"), "map heap");
	assert_keys(get(get(line_of(&l, "proc", 0), "layers"), "heap"), COUNTS);
	assert_keys(get(line_of(&l, "proc", 0), "losses"), "unmatched_free live_full");
	assert_keys(line_of(&l, "stack", 0), "type v ts pid start_ts layer stack_id site " COUNTS
					     " age_p50_s age_p95_s age_max_s complete cut python_complete leak frames");
	assert_keys(line_of(&l, "stack", 2),
		    "type v ts pid start_ts layer stack_id site " COUNTS
		    " age_p50_s age_p95_s age_max_s complete cut python_complete leak frames detail");
	assert_keys(get(line_of(&l, "stack", 2), "detail"), "file_bytes anon_bytes");
	assert_keys(get(line_of(&l, "stack", 0), "leak"),
		    "verdict probability growth_bytes_per_s survivors_pct slope_r2 seen_s");
	assert_keys(json_object_array_get_idx(get(line_of(&l, "stack", 0), "frames"), 0),
		    "name file line module build_id offset kind inlined");
	assert_keys(line_of(&l, "alert", 0),
		    "type v ts kind severity pid start_ts comm message layer stack_id live_bytes "
		    "growth_bytes_per_s evidence first_seen_ts state");
	assert_keys(line_of(&l, "tick", 0), "type v ts n procs self");
	assert_keys(
		get(line_of(&l, "tick", 0), "self"),
		"cpu_pct rss_bytes hits_per_s foreign_hits_per_s probe_scope target_overhead_pct budget_pct body_ns "
		"attached_share stacks maps losses");
	assert_keys(get(get(line_of(&l, "tick", 0), "self"), "stacks"),
		    "taken repeated unwound defined repeated_pct python_taken python_repeated python_defined "
		    "python_foreign cut");
	lines_done(&l);
	fixture_free(r);
}

static void order_of_lines(void **state)
{
	static const char *const order[] = { "proc", "stack", "group", "alert", "tick" };
	struct query q = fixture_query();

	(void)state;
	q.group = GROUP_MODULE;
	struct report *r = fixture_report(&q, 5);
	struct lines l = show(r);
	size_t stage = 0;
	for (size_t i = 0; i < l.n; i++) {
		const char *type = text_of(l.items[i], "type");
		while (strcmp(type, order[stage]))
			assert_true(++stage < ARRAY_SIZE(order));
		assert_int_equal(u64_of(l.items[i], "v"), 1);
		assert_true(json_object_get_double(get(l.items[i], "ts")) == r->ts);
	}
	assert_int_equal(stage, 4);
	assert_string_equal(text_of(l.items[l.n - 1], "type"), "tick");
	assert_int_equal(u64_of(l.items[l.n - 1], "n"), 5);
	assert_int_equal(u64_of(l.items[l.n - 1], "procs"), FIXTURE_PROCS);
	assert_int_equal(l.n, FIXTURE_PROCS + r->procs[0].n_stacks + r->procs[0].n_groups + 2);
	lines_done(&l);
	fixture_free(r);
}

static void copies_are_told_of_pages_only(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct report_proc p = r->procs[0];
	struct report_stack s[2] = { p.stacks[0], p.stacks[0] };

	(void)state;
	s[0].layer = LAYER_PAGE;
	s[0].counts.c.cow_bytes = 8192;
	s[0].counts.c.cow_bytes_se = 64.5;
	p.stacks = s;
	p.n_stacks = 2;
	p.n_groups = 0;
	memset(p.layer_on, 0, sizeof(p.layer_on));
	p.layer_on[LAYER_PAGE] = true;
	p.layers[LAYER_PAGE].c.cow_bytes = 12288;
	p.given_back_bytes = 4096;
	r->procs = &p;
	r->n_procs = 1;
	struct lines l = show(r);
	struct json_object *layers, *page, *field;
	assert_int_equal(u64_of(line_of(&l, "stack", 0), "cow_bytes"), 8192);
	assert_true(json_object_object_get_ex(line_of(&l, "stack", 0), "cow_bytes_se", &field));
	assert_float_equal((float)json_object_get_double(field), 64.5, 1e-6);
	assert_false(json_object_object_get_ex(line_of(&l, "stack", 1), "cow_bytes", &field));
	assert_true(json_object_object_get_ex(line_of(&l, "proc", 0), "layers", &layers));
	assert_true(json_object_object_get_ex(layers, "page", &page));
	assert_int_equal(u64_of(page, "cow_bytes"), 12288);
	assert_null_field(page, "given_back_bytes"); /* nobody looked */
	lines_done(&l);
	p.faults_counted = true;
	l = show(r);
	assert_true(json_object_object_get_ex(line_of(&l, "proc", 0), "layers", &layers));
	assert_true(json_object_object_get_ex(layers, "page", &page));
	assert_int_equal(u64_of(page, "given_back_bytes"), 4096);
	lines_done(&l);
	fixture_free(r);
}

static void unknown_is_null(void **state)
{
	static const char *const live[] = { "live_bytes", "live_bytes_se", "live_count", "peak_live_bytes" };
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct report_stack s = r->procs[0].stacks[0];
	struct report_proc p = r->procs[2]; /* seen by pages only */

	(void)state;
	s.counts.live_known = false;
	s.ages_known = false;
	s.site = NULL;
	s.leak.verdict = VERDICT_UNKNOWN;
	p.start_ts = NAN;
	p.stacks = &s;
	p.n_stacks = 1;
	r->procs = &p;
	r->n_procs = 1;
	struct lines l = show(r);
	struct json_object *proc = line_of(&l, "proc", 0), *stack = line_of(&l, "stack", 0);
	assert_int_equal(u64_of(proc, "rss_bytes"), p.rss_bytes);
	assert_null_field(proc, "anon_bytes");
	assert_null_field(proc, "limit_bytes");
	assert_null_field(proc, "limit_eta_s");
	assert_null_field(proc, "growth_bytes_per_s");
	assert_null_field(proc, "overhead_pct");
	assert_null_field(proc, "python");
	assert_null_field(proc, "start_ts");
	for (size_t i = 0; i < ARRAY_SIZE(live); i++)
		assert_null_field(stack, live[i]);
	assert_int_equal(u64_of(stack, "alloc_bytes_total"), s.counts.c.alloc_bytes);
	assert_null_field(stack, "age_p50_s");
	assert_null_field(stack, "age_max_s");
	assert_null_field(stack, "site");
	assert_null_field(stack, "leak");
	assert_null_field(get(line_of(&l, "alert", 0), "evidence"), "old_live_bytes");
	struct json_object *maps = get(get(line_of(&l, "tick", 0), "self"), "maps");
	assert_null_field(json_object_array_get_idx(maps, 1), "entries");
	lines_done(&l);
	fixture_free(r);
}

static void no_figure_breaks_a_line(void **state)
{
	static const double odd[] = { NAN, INFINITY, -INFINITY, 1e300, -0.0 };
	struct query q = fixture_query();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		struct report *r = fixture_report(&q, 5);
		struct report_proc p = r->procs[0];
		struct report_stack s = p.stacks[0];
		s.age_p50_s = s.age_p95_s = s.age_max_s = s.counts.c.live_bytes_se = s.counts.alloc_bytes_per_s =
			odd[i];
		s.leak.probability = s.leak.slope_r2 = s.leak.survivors_pct = s.leak.growth_bytes_per_s =
			s.leak.seen_s = odd[i];
		p.overhead_pct = p.attached_share = p.limit_eta_s = p.growth_bytes_per_s = odd[i];
		p.stacks = &s;
		p.n_stacks = 1;
		r->procs = &p;
		r->n_procs = 1;
		r->self.cpu_pct = r->self.hits_per_s = r->self.body_ns = r->self.target_overhead_pct = odd[i];
		struct lines l = show(r); /* parses strictly: no NaN, no Infinity */
		assert_null(strcasestr(l.text, ":nan"));
		assert_null(strcasestr(l.text, "inf,"));
		if (!isfinite(odd[i]))
			assert_null_field(line_of(&l, "stack", 0), "age_p50_s");
		lines_done(&l);
		fixture_free(r);
	}
}

static void big_counts_are_exact(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct report_stack s = r->procs[0].stacks[0];
	struct report_proc p = r->procs[0];

	(void)state;
	s.counts.c.alloc_bytes = (1ull << 53) + 1; /* no double holds it */
	s.counts.c.free_bytes = UNKNOWN_U64 - 1;
	s.stack_id = 0xfedcba9876543212;
	p.stacks = &s;
	p.n_stacks = 1;
	r->procs = &p;
	r->n_procs = 1;
	struct lines l = show(r);
	struct json_object *stack = line_of(&l, "stack", 0);
	assert_true(u64_of(stack, "alloc_bytes_total") == (1ull << 53) + 1);
	assert_true(u64_of(stack, "free_bytes_total") == UNKNOWN_U64 - 1);
	assert_string_equal(text_of(stack, "stack_id"), "fedcba9876543212");
	lines_done(&l);
	fixture_free(r);
}

static void targets_text_is_repaired(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct report_proc p = r->procs[0];

	(void)state;
	p.comm = "\xff\xfe";
	p.cmdline = "a\033[2J\n\"b\"\\";
	p.n_stacks = 0;
	r->procs = &p;
	r->n_procs = 1;
	struct lines l = show(r);
	assert_string_equal(text_of(line_of(&l, "proc", 0), "comm"), "\xef\xbf\xbd\xef\xbf\xbd");
	assert_string_equal(text_of(line_of(&l, "proc", 0), "cmdline"), p.cmdline);
	assert_null(strchr(l.text, '\033'));
	lines_done(&l);
	fixture_free(r);
}

static void frames_tell_their_kind(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct lines l = show(r);
	struct json_object *frames = get(line_of(&l, "stack", 0), "frames");
	struct json_object *native = json_object_array_get_idx(frames, 0),
			   *python = json_object_array_get_idx(frames, 2), *bare = json_object_array_get_idx(frames, 5);

	(void)state;
	assert_string_equal(text_of(native, "kind"), "native");
	assert_int_equal(u64_of(native, "offset"), 0x1234);
	assert_int_equal(u64_of(native, "line"), 12);
	assert_true(json_object_get_boolean(get(native, "inlined")));
	assert_string_equal(text_of(python, "kind"), "python");
	assert_string_equal(text_of(python, "name"), "App.serve");
	assert_null_field(python, "offset");
	assert_null_field(python, "module");
	assert_null_field(bare, "file");
	assert_null_field(bare, "line");
	assert_null_field(bare, "build_id");
	lines_done(&l);
	fixture_free(r);
}

static void a_stack_says_why_it_is_cut(void **state)
{
#define X(id, name) [CUT_##id] = name,
	static const char *const names[] = { for_each_cut(X) };
#undef X
	struct query q = fixture_query();

	(void)state;
	for (size_t i = 0; i < CUT_NR; i++) {
		struct report *r = fixture_report(&q, 5);
		struct report_proc p = r->procs[0];
		struct report_stack s = p.stacks[0];
		s.cut = (enum stack_cut)i;
		s.complete = !i;
		s.has_python = i > 1;
		s.python_cut = i > 2;
		p.stacks = &s;
		p.n_stacks = 1;
		r->procs = &p;
		r->n_procs = 1;
		struct lines l = show(r);
		struct json_object *stack = line_of(&l, "stack", 0);
		if (i)
			assert_string_equal(text_of(stack, "cut"), names[i]);
		else
			assert_null_field(stack, "cut");
		if (i > 1)
			assert_int_equal(json_object_get_boolean(get(stack, "python_complete")), i == 2);
		else
			assert_null_field(stack, "python_complete");
		lines_done(&l);
		fixture_free(r);
	}
}

static void threads_are_told_on_request(void **state)
{
	struct query q = fixture_query();

	(void)state;
	q.by_thread = true;
	struct report *r = fixture_report(&q, 5);
	struct lines l = show(r);
	assert_int_equal(u64_of(line_of(&l, "stack", 0), "tid"), 4242);
	assert_string_equal(text_of(line_of(&l, "stack", 0), "thread"), "gunicorn");
	assert_int_equal(u64_of(line_of(&l, "stack", 2), "tid"), 4251);
	assert_null_field(line_of(&l, "stack", 2), "thread");
	assert_null_field(line_of(&l, "stack", 3), "tid"); /* of which thread is not known */
	assert_null_field(line_of(&l, "alert", 0), "tid");
	lines_done(&l);
	fixture_free(r);
}

static void groups_have_lines(void **state)
{
	struct query q = fixture_query();

	(void)state;
	for (int g = GROUP_NONE + 1; g < GROUP_NR; g++) {
		q.group = (enum group_by)g;
		q.by_thread = g == GROUP_THREAD;
		struct report *r = fixture_report(&q, 5);
		struct lines l = show(r);
		struct json_object *first = line_of(&l, "group", 0), *last = line_of(&l, "group", 3);
		assert_keys(first, g == GROUP_THREAD ? "type v ts pid start_ts layer by name tid thread stacks " COUNTS
						     : "type v ts pid start_ts layer by name stacks " COUNTS);
		assert_string_equal(text_of(first, "by"), group_by_name(q.group));
		assert_string_equal(text_of(last, "name"), "[unknown]");
		assert_int_equal(u64_of(line_of(&l, "group", 1), "stacks"), 12);
		assert_int_equal(u64_of(first, "live_bytes"), r->procs[0].groups[0].counts.c.live_bytes);
		assert_null_field(first, "peak_live_bytes"); /* the peaks of its stacks were at different times */
		(void)line_of(&l, "stack", 3);		     /* stacks are there as before */
		lines_done(&l);
		fixture_free(r);
	}
}

static void the_tick_tells_how_stacks_were_taken(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct lines l = show(r);
	struct json_object *stacks = get(get(line_of(&l, "tick", 0), "self"), "stacks");

	(void)state;
	assert_int_equal(u64_of(stacks, "taken"), 3000);
	assert_true(json_object_get_double(get(stacks, "repeated_pct")) == 96.7);
	assert_keys(get(stacks, "cut"), "depth no_row"); /* only what occurred, and complete is no cut */
	lines_done(&l);
	fixture_free(r);

	r = fixture_empty(&q);
	l = show(r);
	stacks = get(get(line_of(&l, "tick", 0), "self"), "stacks");
	assert_null_field(stacks, "repeated_pct");
	assert_int_equal(json_object_object_length(get(stacks, "cut")), 0);
	lines_done(&l);
	fixture_free(r);
}

static void alerts_without_a_stack_name_none(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct alert a = r->alerts[0];

	(void)state;
	a.stack_id = 0;
	a.growth_bytes_per_s = NAN;
	a.state = ALERT_RESOLVED;
	r->alerts = &a;
	struct lines l = show(r);
	assert_null_field(line_of(&l, "alert", 0), "stack_id");
	assert_null_field(line_of(&l, "alert", 0), "growth_bytes_per_s");
	assert_string_equal(text_of(line_of(&l, "alert", 0), "state"), "resolved");
	lines_done(&l);
	fixture_free(r);
}

static struct lines begin(const struct report_meta *meta)
{
	struct lines l = { 0 };
	size_t len;
	FILE *out = open_memstream(&l.text, &len);

	assert_int_equal(view_json.begin(out, meta), 0);
	assert_int_equal(fclose(out), 0);
	lines_parse(&l);
	assert_int_equal(l.n, 1);
	return l;
}

static void meta_line(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_empty(&q);
	struct report_meta meta = *r->meta;
	struct lines l = begin(&meta);

	(void)state;
	assert_keys(l.items[0],
		    "type v ts tool version run_id host kernel start_ts interval_s mode budget_pct sample_bytes layers "
		    "target map_memory_bytes");
	assert_keys(get(l.items[0], "target"), "kind text");
	assert_string_equal(text_of(l.items[0], "run_id"), "00112233445566778899aabbccddeeff");
	assert_string_equal(json_object_to_json_string_ext(get(l.items[0], "layers"), JSON_C_TO_STRING_PLAIN),
			    "[\"map\",\"heap\"]");
	lines_done(&l);

	meta.target_kind = "pid";
	meta.target_text = "12, 4194303";
	l = begin(&meta);
	assert_string_equal(
		json_object_to_json_string_ext(get(get(l.items[0], "target"), "pids"), JSON_C_TO_STRING_PLAIN),
		"[12,4194303]");
	lines_done(&l);
	fixture_free(r);
}

static void end_line(void **state)
{
	static const struct {
		enum end_reason reason;
		const char *name;
	} rows[] = { { END_DURATION, "duration" },
		     { END_INTERRUPTED, "interrupted" },
		     { END_TARGETS_GONE, "targets_gone" },
		     { END_ERROR, "error" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct report_meta meta = { 0 };
		struct lines l = { 0 };
		size_t len;
		double before = unix_seconds();
		FILE *out = open_memstream(&l.text, &len);

		assert_int_equal(view_json.end(out, &meta, rows[i].reason, 3), 0);
		assert_int_equal(fclose(out), 0);
		lines_parse(&l);
		assert_int_equal(l.n, 1);
		assert_keys(l.items[0], "type v ts reason exit_code");
		assert_string_equal(text_of(l.items[0], "reason"), rows[i].name);
		assert_int_equal(u64_of(l.items[0], "exit_code"), 3);
		double ts = json_object_get_double(get(l.items[0], "ts"));
		assert_true(ts > before - 0.01 && ts < unix_seconds() + 0.01);
		lines_done(&l);
	}
}

static void an_empty_interval_is_one_tick(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_empty(&q);
	struct lines l = show(r);

	(void)state;
	assert_int_equal(l.n, 1);
	assert_int_equal(u64_of(l.items[0], "procs"), 0);
	assert_int_equal(json_object_object_length(get(get(l.items[0], "self"), "losses")), 0);
	lines_done(&l);
	fixture_free(r);
}

static void views_are_found_by_format(void **state)
{
	(void)state;
	assert_ptr_equal(view_find("json"), &view_json);
	assert_ptr_equal(view_find("text"), &view_text);
	assert_null(view_find("jso"));
	assert_null(view_find(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_is_there),
		cmocka_unit_test(order_of_lines),
		cmocka_unit_test(copies_are_told_of_pages_only),
		cmocka_unit_test(unknown_is_null),
		cmocka_unit_test(no_figure_breaks_a_line),
		cmocka_unit_test(big_counts_are_exact),
		cmocka_unit_test(targets_text_is_repaired),
		cmocka_unit_test(frames_tell_their_kind),
		cmocka_unit_test(a_stack_says_why_it_is_cut),
		cmocka_unit_test(threads_are_told_on_request),
		cmocka_unit_test(groups_have_lines),
		cmocka_unit_test(the_tick_tells_how_stacks_were_taken),
		cmocka_unit_test(alerts_without_a_stack_name_none),
		cmocka_unit_test(meta_line),
		cmocka_unit_test(end_line),
		cmocka_unit_test(an_empty_interval_is_one_tick),
		cmocka_unit_test(views_are_found_by_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
