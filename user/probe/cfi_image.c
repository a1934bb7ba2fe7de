/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sections are found by their headers; a program runs without them (sstrip), so that .eh_frame is looked up the way the run-time library does where they
 * are missing or broken. libelf only unpacks: it is given a file that we make around the packed bytes, not the hostile one.
 */
#include "probe/cfi_image.h"

#include <dwarf.h>
#include <elf.h>
#include <errno.h>
#include <libelf.h>
#include <sys/stat.h>

#include "probe/cfi_bytes.h"
#include "util/mem.h"

/* Program headers: the kernel refuses to run files with more than 64 KiB of them (fs/binfmt_elf.c). */
#define SEGMENTS_MAX 1170u
#define SECTIONS_MAX 0xff00u /* gABI: without escapes */
#define NAMES_MAX (4u << 20)
/* .eh_frame_hdr: version, three encodings, then the pointer that we want. */
#define EH_HDR_BYTES 4u
#define EH_HDR_VERSION 1

struct source {
	int fd; /* -1: in memory */
	const uint8_t *mem;
	uint64_t bytes;
};

struct headers {
	Elf64_Phdr *segments;
	size_t n_segments;
	Elf64_Shdr *sections;
	size_t n_sections;
	char *names; /* ended with 0 */
	size_t names_bytes;
};

static void headers_done(struct headers *h)
{
	free(h->segments);
	free(h->sections);
	free(h->names);
}

/* All of it: 0, -EBADMSG (cut), -EIO. */
static int read_at(const struct source *src, uint64_t off, void *buf, size_t n)
{
	if (off > src->bytes || n > src->bytes - off)
		return -EBADMSG;
	if (src->fd < 0) {
		memcpy(buf, src->mem + off, n);
		return 0;
	}
	for (size_t used = 0; used < n;) {
		ssize_t got = pread(src->fd, (char *)buf + used, n - used, (off_t)(off + used));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -EIO : -EBADMSG;
		used += (size_t)got;
	}
	return 0;
}

/* Copies [off, off + n), n bounded by the caller. One byte more, 0, is there. */
static int load(const struct source *src, uint64_t off, size_t n, void *ret)
{
	if (off > src->bytes || n > src->bytes - off)
		return -EBADMSG;
	_cleanup_(freep) char *buf = xcalloc(n + 1, 1);
	int err = read_at(src, off, buf, n);
	if (err)
		return err;
	*(void **)ret = buf;
	buf = NULL;
	return 0;
}

static int read_elf_header(const struct source *src, Elf64_Ehdr *ret)
{
	int err = read_at(src, 0, ret, sizeof(*ret));

	if (err)
		return err == -EBADMSG ? -ENOEXEC : err;
	if (memcmp(ret->e_ident, ELFMAG, SELFMAG) != 0 || ret->e_ident[EI_CLASS] != ELFCLASS64 ||
	    ret->e_ident[EI_DATA] != ELFDATA2LSB || ret->e_machine != EM_X86_64)
		return -ENOEXEC;
	return 0;
}

static int read_segments(const struct source *src, const Elf64_Ehdr *eh, struct headers *h)
{
	if (!eh->e_phnum)
		return 0;
	if (eh->e_phentsize != sizeof(*h->segments) || eh->e_phnum > SEGMENTS_MAX)
		return -EBADMSG;
	int err = load(src, eh->e_phoff, eh->e_phnum * sizeof(*h->segments), &h->segments);
	if (!err)
		h->n_segments = eh->e_phnum;
	return err;
}

/* Broken tables are none: the program runs all the same. */
static void read_sections(const struct source *src, const Elf64_Ehdr *eh, struct headers *h)
{
	_cleanup_(freep) Elf64_Shdr *sections = NULL;
	size_t n = eh->e_shnum;

	if (!n || n > SECTIONS_MAX || eh->e_shstrndx >= n || eh->e_shentsize != sizeof(*sections) ||
	    load(src, eh->e_shoff, n * sizeof(*sections), &sections))
		return;
	const Elf64_Shdr *names = &sections[eh->e_shstrndx];
	if (names->sh_type == SHT_NOBITS || names->sh_size > NAMES_MAX ||
	    load(src, names->sh_offset, names->sh_size, &h->names))
		return;
	h->names_bytes = names->sh_size;
	h->n_sections = n;
	h->sections = sections;
	sections = NULL;
}

static const Elf64_Shdr *find_section(const struct headers *h, const char *name)
{
	for (size_t i = 1; i < h->n_sections; i++) {
		const Elf64_Shdr *sh = &h->sections[i];
		if (sh->sh_name < h->names_bytes && !strcmp(h->names + sh->sh_name, name))
			return sh;
	}
	return NULL;
}

/* A file with one section around the packed bytes. NULL data: no. */
static int unpack(const uint8_t *packed, size_t bytes, struct cfi_section *ret)
{
	size_t table = (sizeof(Elf64_Ehdr) + bytes + 7) & ~(size_t)7, total = table + 2 * sizeof(Elf64_Shdr);
	Elf64_Ehdr eh = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_DYN,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_shoff = table,
		.e_ehsize = sizeof(eh),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 2,
	};
	const Elf64_Shdr sections[2] = { { 0 },
					 { .sh_type = SHT_PROGBITS,
					   .sh_flags = SHF_COMPRESSED,
					   .sh_offset = sizeof(eh),
					   .sh_size = bytes,
					   .sh_addralign = 1 } };
	_cleanup_(freep) char *file = xcalloc(total, 1);

	memcpy(file, &eh, sizeof(eh));
	memcpy(file + sizeof(eh), packed, bytes);
	memcpy(file + table, sections, sizeof(sections));
	(void)elf_version(EV_CURRENT); /* fails only for versions that don't exist */
	Elf *elf = elf_memory(file, total);
	Elf_Scn *scn = elf ? elf_getscn(elf, 1) : NULL;
	int err = -EBADMSG;
	if (scn && elf_compress(scn, 0, 0) == 1) {
		const Elf_Data *data = elf_rawdata(scn, NULL);
		if (data && data->d_buf && data->d_size && data->d_size <= CFI_SECTION_MAX) {
			ret->data = xcalloc(data->d_size, 1);
			ret->bytes = data->d_size;
			memcpy(ret->data, data->d_buf, data->d_size);
			err = 0;
		}
	}
	(void)elf_end(elf); /* of memory of ours */
	return err;
}

static int load_packed(const struct source *src, const Elf64_Shdr *sh, struct cfi_section *ret)
{
	_cleanup_(freep) uint8_t *packed = NULL;
	Elf64_Chdr head;

	if (sh->sh_size < sizeof(head))
		return -EBADMSG;
	int err = load(src, sh->sh_offset, sh->sh_size, &packed);
	if (err)
		return err;
	memcpy(&head, packed, sizeof(head));
	ret->is_unreadable = head.ch_size > CFI_SECTION_MAX || unpack(packed, sh->sh_size, ret);
	return 0;
}

/* Leaves `ret` without data where the section has none; what is too large or can't be unpacked is marked. */
static int load_section(const struct source *src, const Elf64_Shdr *sh, bool is_eh, struct cfi_section *ret)
{
	*ret = (struct cfi_section){ .is_eh = is_eh };
	if (!sh || sh->sh_type == SHT_NOBITS || !sh->sh_size)
		return 0;
	ret->vaddr = sh->sh_addr;
	if (sh->sh_size > CFI_SECTION_MAX) {
		ret->is_unreadable = true;
		return 0;
	}
	if (sh->sh_flags & SHF_COMPRESSED)
		return load_packed(src, sh, ret);
	int err = load(src, sh->sh_offset, sh->sh_size, &ret->data);
	if (!err)
		ret->bytes = sh->sh_size;
	return err;
}

static const Elf64_Phdr *segment_at(const struct headers *h, uint64_t vaddr)
{
	for (size_t i = 0; i < h->n_segments; i++) {
		const Elf64_Phdr *ph = &h->segments[i];
		if (ph->p_type == PT_LOAD && vaddr >= ph->p_vaddr && vaddr - ph->p_vaddr < ph->p_filesz)
			return ph;
	}
	return NULL;
}

/* Where PT_GNU_EH_FRAME says that .eh_frame begins; it ends with a terminator, at the latest with its segment. */
static int load_by_header(const struct source *src, const struct headers *h, struct cfi_section *ret)
{
	uint8_t head[EH_HDR_BYTES + 16] = { 0 };
	const Elf64_Phdr *ph = NULL;

	*ret = (struct cfi_section){ .is_eh = true, .stops_at_zero = true };
	for (size_t i = 0; i < h->n_segments && !ph; i++)
		if (h->segments[i].p_type == PT_GNU_EH_FRAME && h->segments[i].p_filesz > EH_HDR_BYTES)
			ph = &h->segments[i];
	if (!ph)
		return 0;
	size_t n = ph->p_filesz < sizeof(head) ? ph->p_filesz : sizeof(head);
	int err = read_at(src, ph->p_offset, head, n);
	if (err)
		return err;
	struct cfi_bytes in = { .at = head + EH_HDR_BYTES, .end = head + n };
	uint64_t at = bytes_pointer(&in, head[1], ph->p_vaddr + EH_HDR_BYTES, ph->p_vaddr);
	const Elf64_Phdr *segment = segment_at(h, at);
	if (head[0] != EH_HDR_VERSION || in.is_bad || !segment)
		return -EBADMSG;
	/* The rest of the segment has other things too: as much of it as a section may have. */
	uint64_t room = segment->p_filesz - (at - segment->p_vaddr);
	ret->bytes = room < CFI_SECTION_MAX ? room : CFI_SECTION_MAX;
	ret->vaddr = at;
	return load(src, segment->p_offset + (at - segment->p_vaddr), ret->bytes, &ret->data);
}

static int load_sections(const struct source *src, const struct headers *h, struct cfi_image *im)
{
	const Elf64_Shdr *eh = find_section(h, ".eh_frame");
	/* A section without bytes: the file has only another one's debug information, and headers that fit that one. */
	int err = eh ? load_section(src, eh, true, &im->eh) : load_by_header(src, h, &im->eh);

	if (!err && im->eh.is_unreadable)
		err = -EFBIG;
	if (!err)
		err = load_section(src, find_section(h, ".debug_frame"), false, &im->debug);
	return err;
}

static void find_code(const struct headers *h, struct cfi_image *im)
{
	im->code = xcalloc(h->n_segments, sizeof(*im->code));
	for (size_t i = 0; i < h->n_segments; i++) {
		const Elf64_Phdr *ph = &h->segments[i];
		struct cfi_code code = { .start = ph->p_vaddr };
		if (ph->p_type == PT_LOAD && ph->p_flags & PF_X &&
		    !__builtin_add_overflow(ph->p_vaddr, ph->p_memsz, &code.end))
			im->code[im->n_code++] = code;
	}
}

bool cfi_image_is_code(const struct cfi_image *im, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < im->n_code; i++)
		if (start >= im->code[i].start && end <= im->code[i].end)
			return true;
	return false;
}

int cfi_image_open(int fd, const void *image, size_t bytes, struct cfi_image *ret)
{
	struct source src = { .fd = fd, .mem = image, .bytes = bytes };
	_cleanup_(headers_done) struct headers h = { 0 };
	struct cfi_image im = { 0 };
	struct stat st;
	Elf64_Ehdr eh;

	if (fd >= 0) {
		if (fstat(fd, &st) < 0)
			return -EIO;
		src.bytes = (uint64_t)st.st_size;
	}
	int err = read_elf_header(&src, &eh);
	if (!err)
		err = read_segments(&src, &eh, &h);
	if (err)
		return err;
	read_sections(&src, &eh, &h);
	find_code(&h, &im);
	err = load_sections(&src, &h, &im);
	if (err) {
		cfi_image_done(&im);
		return err;
	}
	*ret = im;
	return 0;
}

void cfi_image_done(struct cfi_image *im)
{
	free(im->code);
	free(im->eh.data);
	free(im->debug.data);
	*im = (struct cfi_image){ 0 };
}
