#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Names, files, lines and inlined calls of 50 addresses in each of 20 and more binaries, against eu-addr2line -i and c++filt: equal, or
different for a reason that is checked for each address by itself. Binaries of the system (with and without debug information) and ours
(DWARF 4 and 5, compressed, shared by dwz, split, behind a debuglink, static musl, C, C++, Rust).
"""
import bisect
import collections
import os
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import harness as h

PER_BINARY = 50
SYSTEM = [
    "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libm.so.6",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/bin/python3", "/usr/bin/redis-server", "/usr/bin/perl", "/usr/bin/git",
    "/bin/bash", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/bin/gdb", "/usr/lib/x86_64-linux-gnu/libdw.so.1",
    "/usr/bin/node", "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
]
TARGETS = h.ROOT / "tests/e2e/targets"
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("DEBUGINFOD")}
scratch = tempfile.TemporaryDirectory(prefix="tidemark-names-")


def run(*command, text=None, codes=(0,)):
    done = subprocess.run([str(c) for c in command], input=text, capture_output=True, text=True, errors="replace", env=CLEAN, check=False)
    h.check(done.returncode in codes, f"{command} ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stdout


def made(name, *command):
    """A binary made here, or None when the tools for it are missing."""
    path = Path(scratch.name) / name
    if not shutil.which(command[0]):
        return None
    done = subprocess.run([str(c) for c in command] + ["-o", str(path)], capture_output=True, text=True, env=CLEAN, check=False)
    return path if done.returncode == 0 else None


def copied(name, source, *commands):
    """A copy that binutils have changed; {} in the commands is its path."""
    path = Path(scratch.name) / name
    shutil.copy(source, path)
    for c in commands:
        if subprocess.run([w.replace("{}", str(path)) for w in c], capture_output=True, check=False).returncode:
            return None
    return path


def rust(name, *options):
    source = Path(scratch.name) / "names.rs"
    source.write_text("""
use std::collections::BTreeMap;
trait Area { fn area(&self, n: usize) -> usize; }
struct Square(Vec<u8>);
impl Area for Square { fn area(&self, n: usize) -> usize { self.0.len() * n } }
#[inline(never)] fn count<T: Ord + Clone>(items: &[T]) -> BTreeMap<T, usize> {
    let mut m = BTreeMap::new();
    for i in items { *m.entry(i.clone()).or_insert(0) += 1; }
    m
}
fn main() {
    let words: Vec<String> = std::env::args().map(|a| a + "!").collect();
    let shapes: Vec<Box<dyn Area>> = vec![Box::new(Square(vec![1; 10]))];
    let twice = |n: usize| n * 2;
    println!("{:?} {}", count(&words), twice(shapes[0].area(words.len())));
}
""")
    return made(name, "rustc", "-g", "-O", *options, source)


def our_binaries():
    cxx, c = TARGETS / "names_inline.cpp", TARGETS / "names_plain.c"
    plain = made("cxx5", "g++", "-g", "-O2", "-gdwarf-5", cxx)
    found = [
        plain, made("cxx4", "g++", "-g", "-O2", "-gdwarf-4", cxx), made("cxx5z", "g++", "-g", "-O2", "-gz", cxx),
        made("cxx3lto", "g++", "-g", "-O3", "-flto", cxx), made("cxx0", "g++", "-g", "-O0", cxx),
        made("cxxclang", "clang++", "-g", "-O2", cxx), made("cxxpos", "g++", "-g", "-O2", "-no-pie", cxx),
        made("c5", "gcc", "-g", "-O2", c), made("c4", "gcc", "-g", "-O2", "-gdwarf-4", c),
        made("cstatic", "gcc", "-g", "-O2", "-static", c), made("cmusl", "musl-gcc", "-g", "-O2", "-static", c),
        rust("rustv0", "-Csymbol-version=v0") or rust("rustv0", "-Csymbol-mangling-version=v0"), rust("rustlegacy"),
    ]
    if plain:
        found += [copied("cxxlinked", plain, ["objcopy", "--only-keep-debug", "{}", "{}.debug"], ["strip", "-s", "{}"],
                         ["objcopy", "--add-gnu-debuglink={}.debug", "{}"]),
                  copied("cxxstripped", plain, ["strip", "-s", "{}"]), copied("cxxnodebug", plain, ["strip", "-g", "{}"])]
        if shutil.which("dwz"):
            found.append(copied("cxxdwz", plain, ["dwz", "{}"]))
    return [f for f in found if f]


class Symbols:
    """Functions of a file and of its debug file as readelf lists them: what can explain a difference."""

    def __init__(self, path):
        self.rows = set()
        for file in [path, *self.debug_files(path)]:
            for line in run("readelf", "-sW", file).split("\n"):
                w = line.split()
                if len(w) >= 8 and w[0].endswith(":") and w[3] in ("FUNC", "IFUNC", "NOTYPE") and w[6] not in ("UND", "ABS"):
                    self.rows.add((int(w[1], 16), int(w[2], 0), w[7].split("@")[0]))
        self.rows = sorted(self.rows)
        self.starts = [r[0] for r in self.rows]

    @staticmethod
    def debug_files(path):
        found = re.search(r"Build ID: ([0-9a-f]+)", run("readelf", "-nW", path))
        by_id = Path(f"/usr/lib/debug/.build-id/{found[1][:2]}/{found[1][2:]}.debug") if found else Path("/nowhere")
        return [f for f in (by_id, Path(f"{path}.debug")) if f.exists()]

    def covering(self, addr, sized=True):
        last = bisect.bisect_right(self.starts, addr)
        return [r for r in self.rows[max(0, last - 5000):last] if (r[1] and addr < r[0] + r[1]) or (not sized and not r[1])]

    def nearest(self, addr):
        """All that begin where the last symbol at or before the address begins."""
        last = bisect.bisect_right(self.starts, addr)
        return self.rows[bisect.bisect_left(self.starts, self.starts[last - 1]):last] if last else []


def addresses(path, symbols, seed):
    """Half anywhere in .text, half inside of functions that are known by name."""
    rng = random.Random(seed)
    found = re.search(r"\.text\s+PROGBITS\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)", run("readelf", "-SW", path))
    start, size = int(found[1], 16), int(found[2], 16)
    named = [r for r in symbols.rows if r[1] and start <= r[0] < start + size]
    half = PER_BINARY // 2 if named else 0
    picked = {rng.randrange(s, s + n) for s, n, _ in rng.choices(named, k=half * 2)} if half else set()
    picked = set(sorted(picked, key=lambda _: rng.random())[:half])
    while len(picked) < min(PER_BINARY, size):
        picked.add(start + rng.randrange(size))
    return sorted(picked)


def theirs(path, addrs, program="eu-addr2line"):
    """[(function as the file has it, file, line), ...] per address, innermost first."""
    out = collections.OrderedDict()
    frames = None
    text = "".join(f"{a:#x}\n" for a in addrs)
    lines = run(program, "-a", "-i", "-f", "-e", path, text=text, codes=(0, 1)).split("\n")  # 1: it knows nothing of one
    at = 0
    while at + 1 < len(lines):
        if re.fullmatch(r"0x[0-9a-f]+", lines[at]):
            frames = out.setdefault(int(lines[at], 16), [])
            at += 1
            continue
        place = re.fullmatch(r"(.*?):(\d+|\?)(?::\d+)?(?: \(discriminator \d+\))?", lines[at + 1])
        h.check(place, f"{program} said {lines[at + 1]!r}")
        # Without a line the file is that of a symbol (GNU addr2line), or nothing.
        known = place[1] != "??" and place[2] != "?"
        frames.append((lines[at].split(" inlined at ")[0], place[1] if known else "", int(place[2]) if known else 0))
        at += 2
    return out


def ours(tool, questions):
    out, frames = {}, None
    answer = run(tool, "--names", text="".join(f"{p} {a:#x}\n" for p, addrs in questions for a in addrs))
    asked = iter([(p, a) for p, addrs in questions for a in addrs])
    for line in answer.split("\n")[:-1]:
        if line.startswith("= "):
            frames = out.setdefault(next(asked), [])
        else:
            name, file, number = line.split("\t")
            frames.append((name, file, int(number)))
    return out


def demangled(names):
    names = sorted(names)
    return dict(zip(names, run("c++filt", "-i", text="".join(n + "\n" for n in names)).split("\n")))


def same_file(a, b):
    a, b = os.path.normpath(a) if a else "", os.path.normpath(b) if b else ""
    if a == b:
        return True
    # A relative directory in the debug information (-ffile-prefix-map): one of us counts it twice, or not at all.
    return bool(a and b) and (not a.startswith("/") or not b.startswith("/")) and (a.endswith("/" + b) or b.endswith("/" + a))


def base(name):
    """Of a part or a copy that the compiler made: the function."""
    return re.sub(r" \[clone [^\]]*\]|\.(cold|constprop|isra|part|lto_priv)[.\d]*", "", name)


def explain_name(mine, their, outermost, addr, symbols, filt):
    """Why the two names of a frame differ; None: no reason."""
    if mine == their or mine == filt(their):
        return "equal"
    if not outermost:
        return None
    around, near = {filt(r[2]) for r in symbols.covering(addr)}, {filt(r[2]) for r in symbols.nearest(addr)}
    if base(mine) == base(filt(their)):
        return "a part or a copy made by the compiler"
    if re.search(r"\+0x[0-9a-f]+$", mine):
        if their == "??":
            return "equal"
        return None if filt(their) in around else "between two symbols: we name none"
    if mine in around and filt(their) in around:
        return "two symbols of one function"
    if mine in around or (mine in near and not around):
        return "the symbol's name, not the debug information's" if their not in ("??", "") else "a symbol that has no name there"
    return None


def differences(mine, their, addr, symbols, filt):
    """(classes that are explained, what is not explained)"""
    found, strange = set(), []
    if len(mine) != len(their):
        return found, [f"{len(mine)} frames, not {len(their)}"]
    for i, ((name, file, line), (name2, file2, line2)) in enumerate(zip(mine, their)):
        why = explain_name(name, name2, i + 1 == len(mine), addr, symbols, filt)
        if why:
            found.add(why)
        else:
            strange.append(f"name {name!r}, not {filt(name2)!r}")
        if line != line2 or (line and not same_file(file, file2)):
            strange.append(f"place {file}:{line}, not {file2}:{line2}")
    return found - {"equal"}, strange


def agrees_with(gnu, mine, their, addr, symbols, filt):
    """The same frames and places as another one says; GNU addr2line calls an innermost inlined frame by the symbol at times."""
    innermost = {filt(gnu[0][0])} | {filt(n) for n, _, _ in their} if len(gnu) > 1 else set()
    strange = differences(mine, gnu, addr, symbols, filt)[1]
    return not strange or (len(strange) == 1 and strange[0].startswith(f"name {mine[0][0]!r}") and len(mine) > 1 and
                           (mine[0][0] in innermost or filt(gnu[0][0]) == mine[-1][0]))


def judge(path, second, answers, symbols, filt, others):
    """Class of each address of a binary, and what is not explained. `others`: tools that may side with us."""
    classes, strange = collections.Counter(), []
    for a, their in second.items():
        mine = answers[path, a]
        explained, rest = differences(mine, their, a, symbols, filt)
        for tool, said in others.items():
            if rest and agrees_with(said[a], mine, their, a, symbols, filt):
                knows = any(f for _, f, _ in their)
                explained = {f"as {tool} says; eu-addr2line " + ("says otherwise" if knows else "finds no unit there")}
                rest = []
        classes["UNEXPLAINED" if rest else min(explained) if explained else "equal"] += 1
        strange += [f"{path} {a:#x}: {what}" for what in rest]
    return classes, strange


def against_addr2line():
    if not shutil.which("eu-addr2line") or not shutil.which("c++filt"):
        raise h.Skip("no eu-addr2line or no c++filt")
    llvm = next((t for t in ["llvm-addr2line", *(f"llvm-addr2line-{n}" for n in range(25, 12, -1))] if shutil.which(t)), None)
    tool, mine_too = h.BUILD / "unit/test_sym_names", h.BUILD / "unit/test_sym"
    wanted = [str(p.relative_to(h.ROOT)) if p.is_relative_to(h.ROOT) else str(p) for p in (tool, mine_too)]
    run("make", "-s", "-C", h.ROOT, *wanted)
    binaries = [Path(os.path.realpath(p)) for p in SYSTEM if Path(p).exists()] + our_binaries() + [mine_too]
    h.check(len(binaries) >= 20, f"only {len(binaries)} binaries")
    symbols = {p: Symbols(p) for p in binaries}
    questions = [(p, addresses(p, symbols[p], n)) for n, p in enumerate(binaries)]
    answers = ours(tool, questions)
    total, strange = collections.Counter(), []
    for path, addrs in questions:
        second = theirs(path, addrs)
        others = {t: theirs(path, addrs, t) for t in ("addr2line", llvm) if t}
        names = {n for said in (second, *others.values()) for frames in said.values() for n, _, _ in frames}
        names |= {r[2] for a in addrs for r in symbols[path].covering(a) + symbols[path].nearest(a)}
        plain = demangled(names)
        classes, unexplained = judge(path, second, answers, symbols[path], lambda n: plain.get(n, n), others)
        total += classes
        strange += unexplained
    print(f"  {sum(total.values())} addresses of {len(binaries)} binaries, " +
          f"{sum(any(f[1] for f in v) for v in answers.values())} with a line, {sum(len(v) > 1 for v in answers.values())} with inlined calls")
    for name, n in total.most_common():
        print(f"  {n:5} {name}")
    h.check(not strange, f"{len(strange)} unexplained: " + "; ".join(strange[:8]))


def split_debug_information_does_not_lie():
    """-gsplit-dwarf: the .dwo files are not opened; function names come from the symbols, and no line is claimed."""
    path = made("cxxsplit", "g++", "-g", "-O2", "-gsplit-dwarf", TARGETS / "names_inline.cpp")
    if not path:
        raise h.Skip("no g++ with -gsplit-dwarf")
    symbols = Symbols(path)
    addrs = addresses(path, symbols, 1)
    answers = ours(h.BUILD / "unit/test_sym_names", [(path, addrs)])
    plain = demangled({r[2] for a in addrs for r in symbols.covering(a)})
    named = 0
    for a in addrs:
        around = {plain[r[2]] for r in symbols.covering(a)}
        (name, file, line), = answers[path, a]
        h.check(not file and not line, f"{a:#x} is said to be at {file}:{line}")
        h.check(name in around if around else "+0x" in name, f"{a:#x} is called {name!r}, not one of {around}")
        named += bool(around)
    h.check(named >= PER_BINARY // 2, f"only {named} of {len(addrs)} have a name")


def shared_debug_information_is_found():
    """dwz -m: what two files share lies in a third one, found by its build id only. Without it there are symbols, and no lines."""
    debug = Path("/usr/lib/debug/.build-id")
    if not shutil.which("dwz") or not os.access("/usr/lib/debug", os.W_OK):
        raise h.Skip("no dwz, or /usr/lib/debug can't be written")
    pair = [made(n, "g++", "-g", "-O2", "-gdwarf-4", "-Wl,--build-id=sha1", f"-D{n}", TARGETS / "names_inline.cpp") for n in ("dwza", "dwzb")]
    if not all(pair):
        raise h.Skip("no g++")
    whole = copied("dwzwhole", pair[0])
    folder = Path(scratch.name)
    if subprocess.run(["dwz", "-m", "shared.debug", *(p.name for p in pair)], cwd=folder, capture_output=True, check=False).returncode:
        raise h.Skip("dwz could not share anything")
    addrs = addresses(whole, Symbols(whole), 2)
    tool = h.BUILD / "unit/test_sym_names"
    before = ours(tool, [(whole, addrs)])
    without = ours(tool, [(pair[0], addrs)])
    bare = lambda name: re.sub(r"^dwz\w+\+", "", base(name))
    for a in addrs:
        (name, file, line), = without[pair[0], a]
        h.check_equal((file, line), ("", 0), f"place of {a:#x} without the shared file")
        h.check_equal(bare(name), bare(before[whole, a][-1][0]), f"name of {a:#x} without the shared file")
    build_id = re.search(r"Build ID: ([0-9a-f]+)", run("readelf", "-nW", folder / "shared.debug"))[1]
    shared = debug / build_id[:2] / f"{build_id[2:]}.debug"
    parents = [p for p in (debug, shared.parent) if not p.exists()]
    shared.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy(folder / "shared.debug", shared)
        with_it = ours(tool, [(pair[0], addrs)])
    finally:
        shared.unlink(missing_ok=True)
        for p in reversed(parents):
            p.rmdir()
    for a in addrs:
        h.check_equal([(bare(n), *place) for n, *place in with_it[pair[0], a]], [(bare(n), *place) for n, *place in before[whole, a]],
                      f"frames of {a:#x} with the shared file")


h.main(against_addr2line, shared_debug_information_is_found, split_debug_information_does_not_lie, root=False)
