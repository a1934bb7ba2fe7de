#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native stacks of postgres, its backends and its workers under pgbench: complete, and as libdw unwinds them."""
import oracle

oracle.main(oracle.Postgres)
