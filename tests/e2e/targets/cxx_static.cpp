// SPDX-License-Identifier: GPL-2.0-or-later
/* The same program, linked statically: both the operators and malloc are in the executable. */
#include "cxx.cpp"
