# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the verifier works through at most, per program and kernel: the table of insns.budget. Used by scripts/check-insns on the running
kernel and by the kernel matrix on the others; each knows only how it measures.
"""
import re
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
BUDGET = TREE / "tests/load/insns.budget"
HEAD = """# SPDX-License-Identifier: GPL-2.0-or-later
# Instructions that the verifier may work through at most, by program and kernel; "-": not loaded there. A column is made by
# `scripts/check-insns --accept` on that kernel, or by `TIDEMARK_ACCEPT=1 tests/load/test_kernel_X`: as measured and a fifth more.
"""
NAME_MAX = 15  # include/linux/bpf.h: BPF_OBJ_NAME_LEN, with its end


def kernel_of(release):
    """The column of a kernel: 6.18 of 6.18.44-cloud."""
    return re.match(r"\d+\.\d+", release)[0]


def full_name(name):
    """The kernel keeps the first bytes of a name only."""
    names = re.findall(r"^int (?:BPF_PROG\()?(on_\w+)", (TREE / "bpf/tidemark.bpf.c").read_text(), re.M)
    return next((n for n in names if n[:NAME_MAX] == name[:NAME_MAX]), name)


def read():
    """{kernel: {program: limit}}"""
    rows = [line.split() for line in BUDGET.read_text().splitlines() if line and not line.startswith("#")] if BUDGET.exists() else []
    kernels = rows[0][1:] if rows else []
    return {k: {row[0]: int(row[n]) for row in rows[1:] if row[n] != "-"} for n, k in enumerate(kernels, 1)}


def accept(kernel, found):
    """Replaces the kernel's column."""
    columns = dict(read(), **{kernel: {name: -(-n * 6 // 5 // 100) * 100 for name, n in found.items()}})
    kernels = sorted(columns, key=lambda k: [int(n) for n in k.split(".")])
    names = sorted({name for column in columns.values() for name in column})
    rows = [["program", *kernels]] + [[name, *(str(columns[k].get(name, "-")) for k in kernels)] for name in names]
    BUDGET.write_text(HEAD + "".join(f"{row[0]:<17}" + "".join(f"{cell:>8}" for cell in row[1:]) + "\n" for row in rows))


def verdicts(kernel, found):
    """(good?, sentence) of each program. A kernel without a column is held against the most that another may take."""
    columns = read()
    column = columns.get(kernel)
    if column is None:
        column = {name: max(c[name] for c in columns.values() if name in c) for name in {n for c in columns.values() for n in c}}
        yield True, f"no column for kernel {kernel}: held against the others"
    else:
        for name in sorted(set(column) - set(found)):
            yield False, f"{name} has a budget on {kernel} and is not loaded"
    for name, n in sorted(found.items()):
        limit = column.get(name)
        yield limit is not None and n <= limit, f"{name} {n} of {'no budget' if limit is None else limit}"
