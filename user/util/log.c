/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void print(const char *fmt, va_list ap)
{
	char line[1024];

	/* One write: lines of a helper thread or a child do not mix. A cut sentence is still a sentence. */
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	fprintf(stderr, "tidemark: %s\n", line);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	if (!getenv("TIDEMARK_DEBUG"))
		return;
	va_start(ap, fmt);
	print(fmt, ap);
	va_end(ap);
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print(fmt, ap);
	va_end(ap);
}
