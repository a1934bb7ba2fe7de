/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPython as the walker in bpf/python.bpf.h needs it: where a process keeps its runtime, how a thread finds its own state, and where the
 * fields lie in the version that it runs. User space fills struct python_info (probe/pyinfo: _Py_DebugOffsets from 3.13 on, a table made from the
 * headers before); the kernel side and the reader of names share the frame encoding and the code object's identity.
 */
#ifndef TIDEMARK_PYTHON_H
#define TIDEMARK_PYTHON_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#include "tables.h"

#define PYTHON_FRAMES_MAX 127
#define PYTHON_INFOS 1024 /* processes' runtimes known at once; children share their parent's */

/*
 * How the thread's own state is found. CPython keeps it as thread-specific data under `autoTSSkey` (Python/pystate.c, all versions): set for the thread
 * that it belongs to, and to no other. From 3.12 on it is the state that was active last in this thread; before, it is that of the
 * main interpreter, and the holder of the GIL (tstate_current) is asked first, if its thread_id says that it is this thread.
 */
enum python_tsd {
	PYTHON_TSD_GLIBC, /* nptl/descr.h: struct pthread.specific_1stblock, {sequence, data} of 16 bytes per key */
	PYTHON_TSD_MUSL,  /* src/internal/pthread_impl.h: struct __pthread.tsd, a pointer to an array of pointers */
};

#define GLIBC_TSD_OFFSET 0x310 /* of the first block's first key from the thread pointer; 2.17 to 2.41 */
#define GLIBC_TSD_KEYS 32      /* keys in the first block */
#define MUSL_TSD_OFFSET 0x80   /* 1.1.20 to 1.2.5 */

enum python_entry {
	PYTHON_ENTRY_ALL,  /* 3.8-3.10: each frame has an eval loop of its own */
	PYTHON_ENTRY_FLAG, /* 3.11: byte `owner` is is_entry: 1 */
	PYTHON_ENTRY_SHIM, /* 3.12+: a frame whose byte `owner` is >= shim_owner stands below the first frame of an eval loop */
};

/* Value of `pythons`. Offsets in bytes. */
struct python_info {
	__u64 runtime;	      /* address of _PyRuntime; 0: the slot is free */
	__u32 tss_key;	      /* in _PyRuntime: autoTSSkey, {int is_initialized; unsigned key} */
	__u32 tstate_current; /* in _PyRuntime: gilstate.tstate_current; 0: this version has none (3.12+) */
	__u16 tstate_thread;  /* in PyThreadState: thread_id, the value of pthread_self() */
	__u16 tstate_frame;   /* in PyThreadState: frame, current_frame, or (has_cframe) cframe */
	__u16 cframe_frame;   /* in CFrame: current_frame */
	__u16 frame_back;     /* in PyFrameObject / _PyInterpreterFrame: f_back / previous */
	__u16 frame_code;     /* f_code / f_executable */
	__u16 frame_instr; /* f_lasti (int) / prev_instr, instr_ptr (pointer); all frame_* + 8 <= PYTHON_FRAME_BYTES */
	__u16 frame_owner; /* byte: is_entry / owner; not used with PYTHON_ENTRY_ALL */
	__u16 code_start;  /* in PyCodeObject: co_code_adaptive; not used with lasti_shift != 0 or has_lasti */
	__u16 code_id;	   /* in PyCodeObject: first of PYTHON_CODE_ID_BYTES bytes that tell code objects apart */
	__u8 has_cframe;   /* 3.11, 3.12 */
	__u8 has_lasti;	   /* 3.8-3.10: frame_instr is an int, not a pointer */
	__u8 lasti_shift;  /* 3.8, 3.9: 1, f_lasti counts bytes; 3.10: 0, code units */
	__u8 entry;	   /* enum python_entry */
	__u8 shim_owner;   /* 3 in 3.12 (FRAME_OWNED_BY_CSTACK) to 3.14 (FRAME_OWNED_BY_INTERPRETER) */
	__u8 tsd;	   /* enum python_tsd */
	__u8 minor;	   /* 3.minor */
	__u8 pad;
	__u16 tstate_interp; /* in PyThreadState: interp */
	__u32 code_counter; /* in PyInterpreterState: func_state.next_version, which every new code object moves on; 0: none (before 3.12) */
};

#define PYTHON_FRAME_BYTES 128 /* read of a frame */

/*
 * A Python frame in one word: code object (8-byte aligned, 47 bits), is it the first one of an eval loop, number of the code unit (2
 * bytes) that runs, plus one; 0: the frame has not begun.
 */
#define PYTHON_UNIT_BITS 19
#define PYTHON_UNIT_MAX ((1u << PYTHON_UNIT_BITS) - 1) /* that or more: the line is not known */
#define PYTHON_FRAME_ENTRY (1ull << PYTHON_UNIT_BITS)

static inline __u64 python_frame_pack(__u64 code, __u32 unit_plus_1)
{
	return (code >> 3) << (PYTHON_UNIT_BITS + 1) | (unit_plus_1 < PYTHON_UNIT_MAX ? unit_plus_1 : PYTHON_UNIT_MAX);
}

static inline __u64 python_frame_code(__u64 frame)
{
	return frame >> (PYTHON_UNIT_BITS + 1) << 3;
}

static inline __u32 python_frame_unit(__u64 frame) /* plus one */
{
	return (__u32)frame & PYTHON_UNIT_MAX;
}

/*
 * Code objects are freed and their addresses reused; so each is known by its address and by what it consists of: first line, file name, name, line
 * table, and the line table's beginning (a program that compiles and runs one piece of source after the other gets all of them at equal addresses).
 * Not by co_version, which 3.12 and newer have: the same source compiled anew would be another stack each time.
 *
 * All lie within 88 bytes: 3.8-3.10 from 40 on (first line +0, file name +64, name +72, line table +80), 3.11+ from 56 on (first line +12 or +16,
 * co_version +36, file name +56, name +64, qualified name +72, line table +80). What is taken of it never changes in a code object's life (co_warmup of
 * 3.11 is outside).
 */
#define PYTHON_CODE_ID_BYTES 88
#define PYTHON_VERSION_WORD 4 /* its upper half is co_version, 3.12+ */
#define PYTHON_QUALNAME_MINOR 11

static inline __u32 python_code_id_fold(__u64 h)
{
	return (__u32)(h >> 32) ^ (__u32)h;
}

/* Which of the words point to the file's name, the name (qualified where there is one), the line table. */
static inline __u64 python_code_file(const __u64 w[PYTHON_CODE_ID_BYTES / 8], __u32 minor)
{
	return minor < PYTHON_QUALNAME_MINOR ? w[8] : w[7];
}

static inline __u64 python_code_name(const __u64 w[PYTHON_CODE_ID_BYTES / 8])
{
	return w[9];
}

static inline __u64 python_code_table(const __u64 w[PYTHON_CODE_ID_BYTES / 8])
{
	return w[10];
}

#define PYTHON_TABLE_HEAD 16 /* Include/cpython/bytesobject.h: ob_size; ob_shash 24, which changes; data 32 */

/* t: of the table (a bytes object) from ob_size on. */
static inline __u32 python_code_id(const __u64 w[PYTHON_CODE_ID_BYTES / 8], const __u64 t[4])
{
	__u64 first = t[0] < 8 ? t[2] & ((1ull << t[0] * 8) - 1) : t[2];
	__u64 second = t[0] < 8 ? 0 : t[0] < 16 ? t[3] & ((1ull << (t[0] - 8) * 8) - 1) : t[3];
	__u64 h = table_mix(table_mix(table_mix(w[0], w[1]), w[2]), w[8]);

	h = table_mix(table_mix(table_mix(h, w[7]), w[9]), w[10]);
	return python_code_id_fold(table_mix(table_mix(table_mix(h, t[0]), first), second));
}

enum python_chain_flag {
	PYTHON_CHAIN_CUT = 1 << 0, /* deeper than PYTHON_FRAMES_MAX */
	PYTHON_CHAIN_BROKEN =
		1
		<< 1, /* memory could not be read, or was no frame: what is there is right, the outer part is missing */
};

/* Value of `python_chains`, key: its id, a hash over frames, code ids and program image; frame[0] is the innermost. */
struct python_chain {
	struct proc_key first_seen_in;
	__u32 python; /* index in `pythons` */
	__u16 n;
	__u16 flags;			    /* enum python_chain_flag */
	__u64 frame[PYTHON_FRAMES_MAX + 1]; /* the last one is never used: the verifier wants a mask */
	__u32 code_id[PYTHON_FRAMES_MAX + 1];
};

/*
 * What names and lines are read from, copied while the code object runs: one that was compiled to run once is gone before user space can look. A ring
 * record, its kind where struct event has it. Bytes that could not be read are missing at the end.
 */
#define PYTHON_COPY_HEAD 256
#define PYTHON_COPY_TEXT 640
#define PYTHON_COPY_TABLE 512
#define PYTHON_COPY_TABLE_LONG 8192
#define PYTHON_CODES \
	16384 /* code objects known to have been copied; the least recently used go, and are copied again */

struct python_code_copy {
	__u32 kind; /* EVENT_CODE */
	__u32 code_id;
	__u64 code, file, name, table; /* addresses */
	struct proc_key id;
	__u32 head_bytes, file_bytes, name_bytes, table_bytes;
	__u8 head[PYTHON_COPY_HEAD];
	__u8 file_text[PYTHON_COPY_TEXT], name_text[PYTHON_COPY_TEXT];
	__u8 table_text[PYTHON_COPY_TABLE];
	__u8 table_rest[]; /* in long records */
};

_Static_assert(sizeof(struct python_info) == 48, "python_info");
_Static_assert(sizeof(struct python_chain) == 24 + 12 * (PYTHON_FRAMES_MAX + 1), "python_chain");

#endif
