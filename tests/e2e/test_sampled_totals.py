#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Sampled totals and live bytes are right in the mean, and their standard errors mean what they say: through malloc, calloc, memalign,
operator new, chains of realloc, blocks freed by other threads, sizes from 8 bytes to 64 MiB; and of a Python program. The bounds and
how rarely chance breaks them are in sampled.py; tests/stat/sampled.py is the long form.
"""
import harness as h
import sampled


def the_arithmetic_of_this_test():
    """Without sampling the same comparison finds no difference."""
    results = sampled.Results()
    sampled.run_cpp(results, 1, 0, seed=1)
    sampled.check_exact(results)


def native():
    results = sampled.Results()
    sampled.run_cpp(results, 14, 2048, seed=4711)
    sampled.check_quick(results)


def python():
    results = sampled.Results()
    sampled.run_python(results, 12, 8192, seed=4711)
    sampled.check_quick(results)


h.main(the_arithmetic_of_this_test, native, python)
