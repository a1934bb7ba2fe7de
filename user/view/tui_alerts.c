/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/tui_alerts.h"

#include <stdio.h>
#include <string.h>

#include "model/leak.h"

/* One alert stands per process and kind: a leak whose named stack changes is still the same leak. */
static size_t position(const struct standing_alerts *s, const struct alert *a)
{
	size_t i = 0;

	while (i < s->n && (memcmp(&s->all[i].proc, &a->id, sizeof(a->id)) || strcmp(s->all[i].kind, a->kind)))
		i++;
	return i;
}

static void take_out(struct standing_alerts *s, size_t i)
{
	if (i >= s->n)
		return;
	memmove(&s->all[i], &s->all[i + 1], (s->n - i - 1) * sizeof(s->all[0]));
	s->n--;
}

static void add(struct standing_alerts *s, const struct alert *a)
{
	take_out(s, position(s, a));
	if (a->state == ALERT_RESOLVED)
		return;
	if (s->n == ALERTS_MAX)
		take_out(s, 0);
	struct standing_alert *new = &s->all[s->n++];
	new->proc = a->id;
	snprintf(new->kind, sizeof(new->kind), "%s", a->kind);
	snprintf(new->severity, sizeof(new->severity), "%s", a->severity ? a->severity : "");
	snprintf(new->message, sizeof(new->message), "%s", a->message ? a->message : "");
}

void standing_alerts_add(struct standing_alerts *s, const struct alert *alerts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(s, &alerts[i]);
}
