/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/scope.h"

#include <stdbool.h>

enum probe_scope scope_decide(struct scope_policy *p, enum probe_scope now, uint64_t now_ns, double foreign_per_s,
			      uint64_t births)
{
	bool born = births != p->births;

	if (!p->began_ns)
		p->began_ns = now_ns;
	p->births = births;
	if (born)
		p->born_ns = now_ns;
	if (foreign_per_s < SCOPE_FOREIGN_PER_S) /* NAN, between two looks: as it was */
		p->busy_since_ns = 0;
	else if (foreign_per_s >= SCOPE_FOREIGN_PER_S && !p->busy_since_ns)
		p->busy_since_ns = now_ns;
	if (now == SCOPE_PROCESS)
		return born ? SCOPE_HOST : SCOPE_PROCESS;

	uint64_t again_ns = p->again_ns ? p->again_ns : SCOPE_AGAIN_NS;
	uint64_t quiet_ns = p->born_ns ? again_ns : SCOPE_CALM_NS;
	uint64_t since_ns = p->born_ns ? p->born_ns : p->began_ns;
	bool paying = p->busy_since_ns && now_ns - p->busy_since_ns >= SCOPE_CALM_NS;

	return paying && now_ns - since_ns >= quiet_ns ? SCOPE_PROCESS : SCOPE_HOST;
}
