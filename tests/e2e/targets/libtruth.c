/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LD_PRELOAD counter: the truth about the malloc family of a real program, to compare with what Tidemark saw from outside.
 *
 * Each intercepted call leads to exactly one call of the same function of the real allocator, so both count the same calls from the
 * first one of the process. Only outermost calls are counted. TRUTH_FILE names a file of struct truth_file, shared by all
 * processes: a record per program image, which stays readable when the process is gone. Without TRUTH_FILE nothing is counted.
 *
 * The library never allocates. Its own state lies in one mapping with MADV_WIPEONFORK: a forked child finds zeroes, which is just
 * what the rules ask for (a child starts with no live blocks, its frees of inherited ones are unmatched). A vfork child
 * shares the memory and so counts for its parent until it execs.
 *
 * Not seen here, because libc calls it directly and not through its symbol (checked in the disassembly of glibc 2.36): the frees of
 * a thread's cached, already freed blocks when the thread ends. For Tidemark these are unmatched frees. The minimal allocator of
 * the dynamic loader, used until libc's is relocated, is seen by neither.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default"), used))

enum site {
	SITE_MALLOC,
	SITE_CALLOC,
	SITE_REALLOC,
	SITE_REALLOCARRAY,
	SITE_POSIX_MEMALIGN,
	SITE_MEMALIGN,
	SITE_ALIGNED_ALLOC,
	SITE_VALLOC,
	SITE_PVALLOC,
	SITE_NR
};

enum { MAX_RECORDS = 1024, SLOTS = 1 << 23, BOOT_BYTES = 1 << 16 };

#define MAGIC 0x3248545552544d54ull

struct record {
	uint64_t pid;
	char comm[16];
	uint64_t alloc_bytes, alloc_count, free_bytes, free_count;
	uint64_t unmatched; /* frees of blocks that this image didn't allocate */
	uint64_t twice;	    /* address handed out while it was live: a free that went past us */
	uint64_t full;	    /* no room in the table: this record is worth nothing */
	uint64_t site_bytes[SITE_NR], site_count[SITE_NR];
};

struct truth_file {
	uint64_t magic;
	uint64_t n_records; /* claimed; may exceed MAX_RECORDS: then some are missing */
	uint64_t epoch;	    /* raised from outside while all processes stand still: everything counts from there anew */
	struct record records[MAX_RECORDS];
};

struct block {
	uintptr_t addr; /* 0: free slot */
	uint64_t bytes;
};

struct state { /* wiped in a forked child */
	char lock;
	bool claimed;
	uint64_t epoch; /* of the shared file, as last seen */
	struct record *record;
	uint64_t used;
	struct block blocks[SLOTS] __attribute__((aligned(4096)));
};

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void *(*reallocarray)(void *, size_t, size_t);
	int (*posix_memalign)(void **, size_t, size_t);
	void *(*memalign)(size_t, size_t);
	void *(*aligned_alloc)(size_t, size_t);
	void *(*valloc)(size_t);
	void *(*pvalloc)(size_t);
	void (*free)(void *);
} real;

static struct state *state;
static struct truth_file *file;
static struct record no_record; /* more processes than records: counted into the void, the harness sees n_records */
static char ready;		/* 0 not yet, 1 being set up, 2 done */
static char boot[BOOT_BYTES] __attribute__((aligned(16)));
static size_t boot_used;
static __thread int depth __attribute__((tls_model("initial-exec")));

static void die(const char *why)
{
	(void)!write(2, why, strlen(why));
	_exit(97);
}

/* dlsym may allocate while the real functions are not known yet. Never given back, never counted. */
static void *boot_alloc(size_t n)
{
	size_t at = (boot_used + 15) & ~(size_t)15;

	if (n > BOOT_BYTES - at)
		die("truth_preload: bootstrap arena full\n");
	boot_used = at + n;
	return boot + at;
}

static bool is_boot(const void *p)
{
	return (const char *)p >= boot && (const char *)p < boot + BOOT_BYTES;
}

/* The environment as the kernel handed it over: libc's `environ` is not set yet at the first calls. */
static int open_truth_file(void)
{
	static char env[1 << 17];
	static const char name[] = "TRUTH_FILE=";
	int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
	ssize_t n, got = 0;

	if (fd < 0)
		return -1;
	while ((n = read(fd, env + got, sizeof(env) - 1 - (size_t)got)) > 0)
		got += n;
	close(fd);
	for (char *e = env; e < env + got; e += strlen(e) + 1)
		if (!strncmp(e, name, sizeof(name) - 1))
			return open(e + sizeof(name) - 1, O_RDWR | O_CLOEXEC);
	return -1;
}

static void map_state(void)
{
	int fd = open_truth_file();
	void *f, *s;

	if (fd < 0)
		return;
	f = mmap(NULL, sizeof(struct truth_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	s = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0);
	close(fd);
	if (f == MAP_FAILED || s == MAP_FAILED || madvise(s, sizeof(struct state), MADV_WIPEONFORK))
		die("truth_preload: cannot map its state\n");
	file = (struct truth_file *)f;
	if (file->magic != MAGIC)
		die("truth_preload: TRUTH_FILE is not prepared\n");
	state = (struct state *)s;
}

static void resolve(void)
{
	*(void **)&real.calloc = dlsym(RTLD_NEXT, "calloc");
	*(void **)&real.realloc = dlsym(RTLD_NEXT, "realloc");
	*(void **)&real.reallocarray = dlsym(RTLD_NEXT, "reallocarray");
	*(void **)&real.posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
	*(void **)&real.memalign = dlsym(RTLD_NEXT, "memalign");
	*(void **)&real.aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
	*(void **)&real.valloc = dlsym(RTLD_NEXT, "valloc");
	*(void **)&real.pvalloc = dlsym(RTLD_NEXT, "pvalloc");
	*(void **)&real.free = dlsym(RTLD_NEXT, "free");
	*(void **)&real.malloc = dlsym(RTLD_NEXT, "malloc");
	if (!real.malloc || !real.free || !real.calloc || !real.realloc)
		die("truth_preload: no real allocator\n");
}

/* The first call comes before any constructor, with one thread. false: inside of resolve(). */
static bool is_ready(void)
{
	int err;

	if (__builtin_expect(ready == 2, 1))
		return true;
	if (ready == 1)
		return false;
	ready = 1;
	err = errno;
	resolve();
	map_state();
	errno = err;
	ready = 2;
	return true;
}

static void claim_record(void)
{
	uint64_t i = __atomic_fetch_add(&file->n_records, 1, __ATOMIC_RELAXED);
	struct record *r = i < MAX_RECORDS ? &file->records[i] : &no_record;
	int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, r->comm, sizeof(r->comm) - 1);

	if (fd >= 0)
		close(fd);
	if (n > 0 && r->comm[n - 1] == '\n')
		r->comm[n - 1] = 0;
	r->pid = (uint64_t)getpid();
	state->record = r;
	state->epoch = file->epoch;
	state->claimed = true;
}

/* As Tidemark's attach does it: totals start from nothing, and blocks from before are unknown. */
static void begin_epoch(void)
{
	struct record *r = state->record, fresh = { .pid = r->pid };

	memcpy(fresh.comm, r->comm, sizeof(fresh.comm));
	*r = fresh;
	if (madvise(state->blocks, sizeof(state->blocks), MADV_DONTNEED))
		die("truth_preload: cannot clear its table\n");
	state->used = 0;
	state->epoch = file->epoch;
}

static struct record *enter(void)
{
	int err = errno;

	while (__atomic_test_and_set(&state->lock, __ATOMIC_ACQUIRE))
		sched_yield();
	if (!state->claimed)
		claim_record();
	if (state->epoch != __atomic_load_n(&file->epoch, __ATOMIC_RELAXED))
		begin_epoch();
	errno = err;
	return state->record;
}

static void leave(void)
{
	__atomic_clear(&state->lock, __ATOMIC_RELEASE);
}

static uint32_t slot_of(uintptr_t addr)
{
	return (uint32_t)((addr >> 4) * 0x9e3779b97f4a7c15ull >> 36) & (SLOTS - 1);
}

static void put(struct block b)
{
	uint32_t i = slot_of(b.addr);

	if (state->used > SLOTS / 2) {
		state->record->full++;
		return;
	}
	while (state->blocks[i].addr) {
		if (state->blocks[i].addr == b.addr) {
			state->record->twice++;
			state->blocks[i] = b;
			return;
		}
		i = (i + 1) & (SLOTS - 1);
	}
	state->blocks[i] = b;
	state->used++;
}

static void book_alloc(struct record *r, enum site site, uintptr_t addr, uint64_t bytes)
{
	r->alloc_bytes += bytes;
	r->alloc_count++;
	r->site_bytes[site] += bytes;
	r->site_count[site]++;
	put((struct block){ addr, bytes });
}

static struct block take(uintptr_t addr)
{
	uint32_t i = slot_of(addr), j, k;
	struct block b;

	while (state->blocks[i].addr != addr) {
		if (!state->blocks[i].addr)
			return (struct block){ 0, 0 };
		i = (i + 1) & (SLOTS - 1);
	}
	b = state->blocks[i];
	for (j = (i + 1) & (SLOTS - 1); state->blocks[j].addr; j = (j + 1) & (SLOTS - 1)) {
		k = slot_of(state->blocks[j].addr);
		if (((j - k) & (SLOTS - 1)) >= ((j - i) & (SLOTS - 1))) {
			state->blocks[i] = state->blocks[j];
			i = j;
		}
	}
	state->blocks[i] = (struct block){ 0, 0 };
	state->used--;
	return b;
}

static void book_free(struct record *r, struct block b)
{
	if (!b.addr) {
		r->unmatched++;
		return;
	}
	r->free_bytes += b.bytes;
	r->free_count++;
}

static void *allocated(enum site site, void *p, uint64_t bytes)
{
	if (p && state && depth == 1) {
		book_alloc(enter(), site, (uintptr_t)p, bytes);
		leave();
	}
	depth--;
	return p;
}

EXPORT void *malloc(size_t n)
{
	if (!is_ready())
		return boot_alloc(n);
	depth++;
	return allocated(SITE_MALLOC, real.malloc(n), n);
}

EXPORT void *calloc(size_t n, size_t size)
{
	if (!is_ready())
		return boot_alloc(n * size);
	depth++;
	return allocated(SITE_CALLOC, real.calloc(n, size), n * size);
}

EXPORT void *memalign(size_t align, size_t n)
{
	(void)is_ready();
	depth++;
	return allocated(SITE_MEMALIGN, real.memalign(align, n), n);
}

EXPORT void *aligned_alloc(size_t align, size_t n)
{
	(void)is_ready();
	depth++;
	return allocated(SITE_ALIGNED_ALLOC, real.aligned_alloc(align, n), n);
}

EXPORT void *valloc(size_t n)
{
	(void)is_ready();
	depth++;
	return allocated(SITE_VALLOC, real.valloc(n), n);
}

EXPORT void *pvalloc(size_t n)
{
	(void)is_ready();
	depth++;
	return allocated(SITE_PVALLOC, real.pvalloc(n), n);
}

EXPORT int posix_memalign(void **ret, size_t align, size_t n)
{
	int err;

	(void)is_ready();
	depth++;
	err = real.posix_memalign(ret, align, n);
	allocated(SITE_POSIX_MEMALIGN, err ? NULL : *ret, n);
	return err;
}

/* The old block is taken before the call: another thread may be given its address before we are back. */
static struct block take_before(void *p)
{
	struct block b = { 0, 0 };

	if (p && state && depth == 1) {
		enter();
		b = take((uintptr_t)p);
		leave();
	}
	return b;
}

static void *reallocated(enum site site, struct block old, void *p, void *q, uint64_t bytes)
{
	struct record *r;

	if (state && depth == 1) {
		r = enter();
		if (p && (q || !bytes))
			book_free(r, old);
		else if (old.addr) /* failed: the block is where it was */
			put(old);
		if (q)
			book_alloc(r, site, (uintptr_t)q, bytes);
		leave();
	}
	depth--;
	return q;
}

EXPORT void *realloc(void *p, size_t n)
{
	struct block old;

	if (!is_ready())
		die("truth_preload: realloc while resolving\n");
	depth++;
	old = take_before(p);
	return reallocated(SITE_REALLOC, old, p, real.realloc(p, n), n);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
	struct block old;
	size_t bytes;

	(void)is_ready();
	depth++;
	old = take_before(p);
	if (__builtin_mul_overflow(n, size, &bytes))
		bytes = SIZE_MAX;
	return reallocated(SITE_REALLOCARRAY, old, p, real.reallocarray(p, n, size), bytes);
}

EXPORT void free(void *p)
{
	struct record *r;

	if (!p || is_boot(p))
		return;
	if (!is_ready())
		return;
	depth++;
	if (state && depth == 1) {
		r = enter();
		book_free(r, take((uintptr_t)p));
		leave();
	}
	real.free(p);
	depth--;
}
