/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/fmt.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/mem.h"

static char *scaled(char buf[FMT_CAP], double v, double base, const char *units)
{
	const char *sign = v < 0 ? "-" : "";
	double a = fabs(v);
	size_t i = 0, last = strlen(units) - 1;

	while (i < last && a >= (i ? base - 0.5 : base)) {
		a /= base;
		i++;
	}
	if (units[i] == ' ')
		snprintf(buf, FMT_CAP, "%s%.0f", sign, a);
	else
		snprintf(buf, FMT_CAP, a < 99.95 ? "%s%.1f%c" : "%s%.0f%c", sign, a, units[i]);
	return buf;
}

char *fmt_bytes(char buf[FMT_CAP], double bytes)
{
	return scaled(buf, bytes, 1024, " KMGTP");
}

char *fmt_count(char buf[FMT_CAP], double n)
{
	return scaled(buf, n, 1000, " kMGT");
}

char *fmt_duration(char buf[FMT_CAP], double s)
{
	long t = (long)s;

	if (s < 1)
		snprintf(buf, FMT_CAP, "%.0fms", s * 1000);
	else if (t < 60)
		snprintf(buf, FMT_CAP, "%lds", t);
	else if (t < 3600)
		snprintf(buf, FMT_CAP, "%ldm%02lds", t / 60, t % 60);
	else if (t < 86400)
		snprintf(buf, FMT_CAP, "%ldh%02ldm", t / 3600, t / 60 % 60);
	else
		snprintf(buf, FMT_CAP, "%ldd%02ldh", t / 86400, t / 3600 % 24);
	return buf;
}

static int parse_number(const char *s, double *ret, const char **ret_rest)
{
	char *end;

	if (!isdigit((unsigned char)*s) && *s != '.')
		return -EINVAL;
	errno = 0;
	double v = strtod(s, &end);
	if (end == s || errno || !isfinite(v))
		return -EINVAL;
	*ret = v;
	*ret_rest = end;
	return 0;
}

int parse_bytes(const char *s, uint64_t *ret)
{
	static const char units[] = "KMGT";
	const char *rest;
	double v;

	if (parse_number(s, &v, &rest))
		return -EINVAL;
	const char *u = *rest ? strchr(units, toupper((unsigned char)*rest)) : NULL;
	if (u) {
		v = ldexp(v, 10 * (int)(u - units + 1));
		rest++;
	}
	if (*rest && strcasecmp(rest, "B") && (!u || strcasecmp(rest, "iB")))
		return -EINVAL;
	if (v >= 9.2e18)
		return -EINVAL;
	*ret = (uint64_t)v;
	return 0;
}

int parse_seconds(const char *s, double *ret)
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = { { "", 1 }, { "s", 1 }, { "ms", 1e-3 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 } };
	const char *rest;
	double v;

	if (parse_number(s, &v, &rest))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(rest, units[i].unit)) {
			*ret = v * units[i].factor;
			return 0;
		}
	return -EINVAL;
}

int parse_percent(const char *s, double *ret)
{
	const char *rest;
	double v;

	if (parse_number(s, &v, &rest) || (*rest && strcmp(rest, "%")))
		return -EINVAL;
	*ret = v;
	return 0;
}
