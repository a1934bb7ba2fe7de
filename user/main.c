/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <locale.h>
#include <stdlib.h>

#include "args.h"

int main(int argc, char **argv)
{
	struct settings s;

	(void)setlocale(LC_ALL, ""); /* refused: plain ASCII is drawn */
	int code = args_parse(argc, argv, &s);
	if (!code)
		code = s.command->run(&s);
	settings_done(&s);
	return code < 0 ? EXIT_SUCCESS : code;
}
