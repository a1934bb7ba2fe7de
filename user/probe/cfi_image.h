/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of an ELF file that call frame information needs: executable segments, .eh_frame, .debug_frame. Read by position, never mapped: a
 * file that shrinks meanwhile gives short reads. Judges no entry of the sections.
 */
#ifndef TIDEMARK_PROBE_CFI_IMAGE_H
#define TIDEMARK_PROBE_CFI_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One section may have so many bytes, unpacked; a chromium has 20 MiB. */
#define CFI_SECTION_MAX (64u << 20)

struct cfi_section {
	uint8_t *data; /* owned; NULL: the file has none */
	size_t bytes;
	uint64_t vaddr;	    /* as linked, of data[0] */
	bool is_eh;	    /* .eh_frame, else .debug_frame */
	bool stops_at_zero; /* its end is unknown: a terminator ends it */
	bool is_unreadable; /* there is one, but over CFI_SECTION_MAX or packed in a way that can't be read */
};

struct cfi_code {
	uint64_t start, end; /* as linked */
};

struct cfi_image {
	struct cfi_code *code; /* executable segments */
	size_t n_code;
	struct cfi_section eh, debug;
};

/*
 * fd -1: from the image in memory. Nothing stays borrowed. 0, -ENOEXEC (no ELF file for x86-64), -EBADMSG (cut), -EIO, -EFBIG (.eh_frame
 * over CFI_SECTION_MAX).
 */
int cfi_image_open(int fd, const void *image, size_t bytes, struct cfi_image *ret);
void cfi_image_done(struct cfi_image *im);
/* [start, end) lies in one executable segment. */
bool cfi_image_is_code(const struct cfi_image *im, uint64_t start, uint64_t end);

#endif
