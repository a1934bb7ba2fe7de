/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Library folders may log at debug level only (TIDEMARK_DEBUG=1); what the user must know is returned.
 * The program's own errors are one line on stderr: object in quotes, reason, what to do.
 */
#ifndef TIDEMARK_UTIL_LOG_H
#define TIDEMARK_UTIL_LOG_H

void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For main, session and commands only. Prints "tidemark: <text>\n". */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
