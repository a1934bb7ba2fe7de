#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native stacks of nginx serving: small and large files, listings, compression: complete, and as libdw unwinds them."""
import oracle

oracle.main(oracle.Nginx)
