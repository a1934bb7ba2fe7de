/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Debug files from a server: only when the user wants that, without anybody waiting. The server is a child on 127.0.0.1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "sym/sym.h"
#include "util/clock.h"
#include "util/mem.h"

#define WAIT_LIMIT_NS 30000000000ull /* whoever waits for the client waits 90 s */

static const char source[] = "#include <stdlib.h>\n"
			     "__attribute__((noinline)) static int hidden(int x)\n"
			     "{\n"
			     "	int *p = malloc(sizeof(int) * (size_t)x);\n"
			     "	return p ? *p : x;\n"
			     "}\n"
			     "int main(int argc, char **argv)\n"
			     "{\n"
			     "	(void)argv;\n"
			     "	return hidden(argc);\n"
			     "}\n";

enum manner { SENDS_FILE, SENDS_WRONG_FILE, KNOWS_NOTHING, SAYS_NOTHING };

struct fixture {
	char dir[64], stripped[96], debug[96];
	uint64_t hidden;
	bool can_run;
	pid_t server;
	unsigned int port;
	unsigned int *asked; /* shared with the server */
};

static int shell(const char *fmt, const char *dir)
{
	_cleanup_(freep) char *cmd = xasprintf("cd '%s' && { %s ; } >/dev/null 2>&1", dir, fmt);

	return system(cmd);
}

static int set_up(void **state)
{
	static struct fixture fx = { .dir = "/tmp/tidemark-fetch-XXXXXX" };
	void *lib = dlopen("libdebuginfod.so.1", RTLD_NOW);
	char cmd[160], line[128];

	*state = &fx;
	if (!mkdtemp(fx.dir))
		return -1;
	(void)snprintf(fx.stripped, sizeof(fx.stripped), "%s/stripped", fx.dir); /* fits, here and below */
	(void)snprintf(fx.debug, sizeof(fx.debug), "%s/debug", fx.dir);
	(void)snprintf(cmd, sizeof(cmd), "%s/fx.c", fx.dir);
	FILE *f = fopen(cmd, "we");
	if (!f || fputs(source, f) < 0 || fclose(f))
		return -1;
	fx.asked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fx.can_run = lib && shell("cc -g -O1 -Wl,--build-id=sha1 fx.c -o prog && strip -s prog -o stripped && "
				  "objcopy --only-keep-debug prog debug && nm prog | grep ' hidden$' > at",
				  fx.dir) == 0;
	(void)snprintf(cmd, sizeof(cmd), "%s/at", fx.dir);
	f = fx.can_run ? fopen(cmd, "re") : NULL;
	if (f && fgets(line, sizeof(line), f))
		fx.hidden = strtoull(line, NULL, 16);
	if (f)
		(void)fclose(f); /* only read */
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fx = *state;
	_cleanup_(freep) char *cmd = xasprintf("rm -rf '%s'", fx->dir);

	(void)munmap(fx->asked, 4096); /* our own mapping */
	return system(cmd);
}

static void send_all(int to, const void *data, size_t n)
{
	if (write(to, data, n) != (ssize_t)n)
		_exit(1);
}

static void answer(int to, const char *path)
{
	char head[128];
	FILE *f = path ? fopen(path, "re") : NULL;
	_cleanup_(freep) char *body = NULL;
	struct stat st = { 0 };

	if (f && fstat(fileno(f), &st) == 0) {
		body = xcalloc(1, (size_t)st.st_size + 1);
		st.st_size = (off_t)fread(body, 1, (size_t)st.st_size, f);
	}
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Length: %lld\r\nConnection: close\r\n\r\n",
			 f ? "200 OK" : "404 Not Found", (long long)st.st_size);
	send_all(to, head, (size_t)n);
	if (f) {
		send_all(to, body, (size_t)st.st_size);
		(void)fclose(f); /* only read */
	}
}

static void serve(int listener, const struct fixture *fx, enum manner how)
{
	static const char want[] = "GET /buildid/";
	char request[4096];

	for (;;) {
		int c = accept(listener, NULL, NULL);
		ssize_t got = c < 0 ? -1 : read(c, request, sizeof(request) - 1);
		if (got <= 0)
			_exit(1);
		request[got] = 0;
		__atomic_add_fetch(fx->asked, 1, __ATOMIC_SEQ_CST);
		bool is_right = !strncmp(request, want, strlen(want)) && strstr(request, "/debuginfo HTTP/1.");
		if (how == SAYS_NOTHING)
			continue; /* the connection stays */
		answer(c, !is_right || how == KNOWS_NOTHING ? NULL : how == SENDS_FILE ? fx->debug : "/proc/self/exe");
		(void)close(c); /* all is sent */
	}
}

/* Sets what the client library reads; the cache is empty. */
static void start_server(struct fixture *fx, enum manner how)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char url[64], cache[96];

	if (!fx->can_run)
		skip();
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	*fx->asked = 0;
	fx->server = fork();
	if (fx->server == 0)
		serve(listener, fx, how);
	assert_true(fx->server > 0);
	assert_int_equal(close(listener), 0);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(at.sin_port)); /* fits */
	(void)snprintf(cache, sizeof(cache), "%s/cache%d", fx->dir, (int)how);	     /* fits */
	assert_int_equal(setenv("DEBUGINFOD_URLS", url, 1), 0);
	assert_int_equal(setenv("DEBUGINFOD_CACHE_PATH", cache, 1), 0);
	assert_int_equal(setenv("TIDEMARK_DEBUGINFOD", "1", 1), 0);
}

static void stop_server(struct fixture *fx)
{
	assert_int_equal(kill(fx->server, SIGKILL), 0);
	assert_int_equal(waitpid(fx->server, NULL, 0), fx->server);
	assert_int_equal(unsetenv("TIDEMARK_DEBUGINFOD"), 0);
}

static struct sym *sym_with(const struct fixture *fx)
{
	struct sym *s = sym_new();
	const struct snap_module m = { .id = 1, .path = fx->stripped, .open_path = fx->stripped, .build_id = "" };

	sym_add_modules(s, &m, 1);
	return s;
}

/* Turn by turn until the answer is final. Returns the longest turn. */
static uint64_t until_final(struct sym *s, const struct fixture *fx, uint64_t budget_ns, const struct sym_frame **ret)
{
	const struct snap_frame at = { .module = 1, .addr = fx->hidden + 4 };
	const struct timespec pause = { .tv_nsec = 20000000 };
	uint64_t longest = 0, start = mono_ns();

	do {
		uint64_t begin = mono_ns();
		sym_set_budget(s, budget_ns);
		assert_int_equal(sym_resolve(s, &at, ret), 1);
		uint64_t took = mono_ns() - begin;
		longest = took > longest ? took : longest;
		assert_true(mono_ns() - start < 60000000000ull);
		(void)nanosleep(&pause, NULL); /* only a pause */
	} while (!(*ret)->final);
	return longest;
}

static void a_file_comes_and_names_improve(void **state)
{
	static const uint64_t budgets[] = { 0, 5000000 };
	struct fixture *fx = *state;
	const struct sym_frame *f;
	const struct snap_frame at = { .module = 1, .addr = fx->hidden + 4 };

	start_server(fx, SENDS_FILE);
	for (size_t i = 0; i < ARRAY_SIZE(budgets); i++) {
		struct sym *s = sym_with(fx);
		assert_int_equal(sym_resolve(s, &at, &f), 1);
		assert_false(f->final);
		assert_int_equal(strncmp(f->name, "stripped+0x", 11), 0);
		(void)until_final(s, fx, budgets[i], &f); /* asserts what matters */
		assert_string_equal(f->name, "hidden");
		assert_non_null(f->file);
		assert_string_equal(strrchr(f->file, '/'), "/fx.c");
		sym_free(s);
	}
	assert_int_equal(*fx->asked, 1); /* the second time it is in the client's cache */
	stop_server(fx);
}

static void a_wrong_file_is_refused(void **state)
{
	struct fixture *fx = *state;
	const struct sym_frame *f;

	start_server(fx, SENDS_WRONG_FILE);
	struct sym *s = sym_with(fx);
	(void)until_final(s, fx, 0, &f); /* asserts what matters */
	assert_int_equal(strncmp(f->name, "stripped+0x", 11), 0);
	assert_int_equal(*fx->asked, 1);
	sym_free(s);
	stop_server(fx);
}

static void nowhere_is_an_answer(void **state)
{
	struct fixture *fx = *state;
	const struct sym_frame *f;

	start_server(fx, KNOWS_NOTHING);
	struct sym *s = sym_with(fx);
	(void)until_final(s, fx, 0, &f); /* asserts what matters */
	assert_int_equal(strncmp(f->name, "stripped+0x", 11), 0);
	assert_true(*fx->asked >= 1);
	sym_free(s);
	stop_server(fx);
}

static void nobody_is_asked_without_being_told(void **state)
{
	static const char *const values[] = { NULL, "", "0", "yes" };
	struct fixture *fx = *state;
	const struct sym_frame *f;

	start_server(fx, SENDS_FILE);
	assert_int_equal(setenv("DEBUGINFOD_CACHE_PATH", fx->dir, 1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		assert_int_equal(
			values[i] ? setenv("TIDEMARK_DEBUGINFOD", values[i], 1) : unsetenv("TIDEMARK_DEBUGINFOD"), 0);
		struct sym *s = sym_with(fx);
		const struct snap_frame at = { .module = 1, .addr = fx->hidden + 4 };
		assert_int_equal(sym_resolve(s, &at, &f), 1);
		assert_true(f->final);
		sym_free(s);
	}
	assert_int_equal(*fx->asked, 0);
	stop_server(fx);
}

static void a_silent_server_holds_nobody_up(void **state)
{
	struct fixture *fx = *state;
	const struct sym_frame *f;
	const struct timespec pause = { .tv_nsec = 20000000 };

	start_server(fx, SAYS_NOTHING);
	struct sym *s = sym_with(fx);
	uint64_t start = mono_ns(), longest = 0;
	for (int i = 0; i < 50 || !__atomic_load_n(fx->asked, __ATOMIC_SEQ_CST); i++) {
		const struct snap_frame at = { .module = 1, .addr = fx->hidden + (uint64_t)(i & 15) };
		uint64_t begin = mono_ns();
		sym_set_budget(s, i & 1 ? 0 : 5000000);
		assert_int_equal(sym_resolve(s, &at, &f), 1);
		longest = mono_ns() - begin > longest ? mono_ns() - begin : longest;
		assert_int_equal(strncmp(f->name, "stripped+0x", 11), 0);
		assert_true(mono_ns() - start < 60000000000ull);
		(void)nanosleep(&pause, NULL); /* only a pause */
	}
	assert_true(longest < WAIT_LIMIT_NS);
	start = mono_ns();
	sym_free(s);
	printf("longest turn %.1f ms, ended in %.1f ms\n", (double)longest / 1e6, (double)(mono_ns() - start) / 1e6);
	assert_true(mono_ns() - start < WAIT_LIMIT_NS);
	stop_server(fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_comes_and_names_improve),
		cmocka_unit_test(a_wrong_file_is_refused),
		cmocka_unit_test(nowhere_is_an_answer),
		cmocka_unit_test(nobody_is_asked_without_being_told),
		cmocka_unit_test(a_silent_server_holds_nobody_up),
	};

	return cmocka_run_group_tests_name("sym_fetch", tests, set_up, tear_down);
}
