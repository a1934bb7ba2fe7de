/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Alerts that stand. A report tells an alert once, when it arises or resolves; the screen has to show it as long as it lasts.
 * Bounded: beyond ALERTS_MAX the oldest makes room.
 */
#ifndef TIDEMARK_VIEW_TUI_ALERTS_H
#define TIDEMARK_VIEW_TUI_ALERTS_H

#include <stddef.h>

#include "collect/snapshot.h"

struct alert;

#define ALERTS_MAX 32

struct standing_alert {
	char kind[16], severity[16], message[256];
	struct proc_key proc;
};

struct standing_alerts {
	struct standing_alert all[ALERTS_MAX]; /* newest last */
	size_t n;
};

/* Idempotent: the same report may be drawn more than once. */
void standing_alerts_add(struct standing_alerts *s, const struct alert *alerts, size_t n);

#endif
