# SPDX-License-Identifier: GPL-2.0-or-later
"""
The contract of the JSON lines, as published: which fields a line has, of which types, what may be null, and what must add up.
Pure: takes bytes, collects faults, starts nothing. More fields than named here are allowed; fewer are not.
"""
import json
import math

NUM = (int, float)
NULL = type(None)
MODES = {"exact", "sampled", "pages"}
LAYERS = {"page", "map", "heap", "python"}
LOSSES = {"unmatched_free", "late_attach", "live_full", "live_busy", "sums_full", "stacks_full", "stack_collision", "scratch_busy",
          "thread_state", "missed_return", "missed_free", "user_read", "ring_full", "procs_full", "map_place", "return_unsafe"}
GROUPS = {"function", "module", "file:line", "thread"}
CUTS = {None, "depth", "no_mapping", "no_row", "rule", "memory", "unknown"}
VERDICTS = {"leak", "cache", "growing", "steady", "churn", "unknown"}

HEAD = {"type": str, "v": int, "ts": NUM}
COUNTS = {
    "live_bytes": (int, NULL), "live_bytes_se": NUM + (NULL,), "live_count": (int, NULL), "peak_live_bytes": (int, NULL),
    "alloc_bytes_total": int, "alloc_bytes_total_se": NUM + (NULL,), "alloc_count_total": int, "free_bytes_total": (int, NULL),
    "free_count_total": (int, NULL), "alloc_bytes_per_s": NUM + (NULL,), "allocs_per_s": NUM + (NULL,),
}
# Of resident pages totals and rates may be unknown: where faults are not observed.
PAGE_COUNTS = {name: (types if isinstance(types, tuple) else (types,)) + (NULL,) for name, types in COUNTS.items()}
MAYBE_INT = (int, NULL)
MAYBE_NUM = NUM + (NULL,)
LINES = {
    "meta": {"tool": str, "version": str, "run_id": str, "host": str, "kernel": str, "start_ts": NUM, "interval_s": NUM,
             "mode": str, "budget_pct": MAYBE_NUM, "sample_bytes": MAYBE_INT, "layers": list, "target": dict},
    "proc": {"pid": int, "start_ts": NUM, "ppid": int, "comm": str, "cmdline": str, "cgroup": (str, NULL), "python": (str, NULL), "python_unsupported": (str, NULL),
             "python_allocator": (str, NULL), "python_coverage": MAYBE_NUM, "state": str, "mode": str, "attached_share": NUM, "overhead_pct": MAYBE_NUM, "lever": (str, NULL), "rss_bytes": MAYBE_INT,
             "anon_bytes": MAYBE_INT, "file_bytes": MAYBE_INT, "shmem_bytes": MAYBE_INT, "swap_bytes": MAYBE_INT,
             "limit_bytes": MAYBE_INT, "limit_eta_s": MAYBE_NUM, "growth_bytes_per_s": MAYBE_NUM, "layers": dict, "losses": dict},
    "stack": {"pid": int, "start_ts": NUM, "layer": str, "stack_id": str, "site": str, **COUNTS, "age_p50_s": MAYBE_NUM,
              "age_p95_s": MAYBE_NUM, "age_max_s": MAYBE_NUM, "complete": bool, "cut": (str, NULL),
              "leak": (dict, NULL), "frames": list},
    "group": {"pid": int, "start_ts": NUM, "layer": str, "by": str, "name": str, "stacks": int, **COUNTS},
    "alert": {"kind": str, "severity": str, "pid": int, "start_ts": NUM, "comm": str, "message": str, "layer": (str, NULL),
              "stack_id": (str, NULL), "live_bytes": MAYBE_INT, "growth_bytes_per_s": MAYBE_NUM, "evidence": dict,
              "first_seen_ts": NUM, "state": str},
    "tick": {"n": int, "procs": int, "self": dict},
    "end": {"reason": str, "exit_code": int},
}
FRAME = {"name": str, "file": (str, NULL), "line": MAYBE_INT, "module": (str, NULL), "build_id": (str, NULL), "offset": MAYBE_INT,
         "kind": str, "inlined": bool}
SELF = {"cpu_pct": MAYBE_NUM, "rss_bytes": int, "hits_per_s": MAYBE_NUM, "target_overhead_pct": MAYBE_NUM, "budget_pct": MAYBE_NUM,
        "body_ns": MAYBE_NUM, "attached_share": NUM, "maps": list, "losses": dict}
LEAK = {"verdict": str, "probability": MAYBE_NUM, "growth_bytes_per_s": MAYBE_NUM, "survivors_pct": MAYBE_NUM, "slope_r2": MAYBE_NUM,
        "seen_s": NUM}
PROBE = {"pid": int, "layer": str, "family": str, "module": str, "build_id": (str, NULL), "symbol": str, "offset": int,
         "insn": (str, NULL), "kind": (str, NULL), "entry_ns": MAYBE_NUM, "return_how": str, "return_ns": MAYBE_NUM, "shape": str,
         "planned": bool, "why": (str, NULL), "hazards": list}
ENDS = {"duration", "interrupted", "targets_gone", "error"}


def _types(types):
    return "/".join(t.__name__ for t in (types if isinstance(types, tuple) else (types,)))


def fields(obj, wanted, what):
    """Faults of one object against {field: types}. A bool is no number here; NaN and infinity can't be in JSON."""
    for name, types in wanted.items():
        if name not in obj:
            yield f"{what} has no {name}"
            continue
        v = obj[name]
        allowed = types if isinstance(types, tuple) else (types,)
        if isinstance(v, bool) and bool not in allowed or not isinstance(v, allowed):
            yield f"{what}.{name} is {v!r}, not {_types(types)}"
        elif isinstance(v, float) and not math.isfinite(v):
            yield f"{what}.{name} is {v!r}"


def not_negative(obj, what, names):
    for n in names:
        if isinstance(obj.get(n), NUM) and obj[n] < 0:
            yield f"{what}.{n} is negative: {obj[n]}"


def losses(obj, what):
    for reason, n in obj.items():
        if reason not in LOSSES:
            yield f"{what}: unknown loss {reason!r}"
        if not isinstance(n, int) or isinstance(n, bool) or n <= 0:
            yield f"{what}: loss {reason} is {n!r} (only reasons that occurred stand there)"


def counts(c, what, exact):
    yield from not_negative(c, what, COUNTS)
    if exact and (c.get("live_bytes_se") or c.get("alloc_bytes_total_se")):
        yield f"{what}: an exact figure with a standard error"


def balance(c, what):
    """What is live is what was allocated and not freed, unless calls were missed in between and it is known from elsewhere."""
    if not all(isinstance(c.get(k), int) for k in ("live_bytes", "live_count", "alloc_bytes_total", "alloc_count_total",
                                                  "free_bytes_total", "free_count_total")):
        return
    untracked = c.get("untracked_bytes", 0), c.get("untracked_count", 0)
    if c["live_bytes"] != c["alloc_bytes_total"] - c["free_bytes_total"] - untracked[0]:
        yield f"{what}: live bytes {c['live_bytes']} are not alloc - free ({c['alloc_bytes_total']} - {c['free_bytes_total']})"
    if c["live_count"] != c["alloc_count_total"] - c["free_count_total"] - untracked[1]:
        yield f"{what}: live count {c['live_count']} is not alloc - free ({c['alloc_count_total']} - {c['free_count_total']})"
    if isinstance(c.get("peak_live_bytes"), int) and c["peak_live_bytes"] < c["live_bytes"]:
        yield f"{what}: peak {c['peak_live_bytes']} below live {c['live_bytes']}"


def meta(line):
    if line["tool"] != "tidemark":
        yield f"meta.tool is {line['tool']!r}"
    if set(line["layers"]) - LAYERS:
        yield f"meta.layers has {line['layers']!r}"
    if not line["interval_s"] > 0:
        yield "meta.interval_s is not positive"


def proc(line):
    if line["state"] not in {"running", "exited"} or line["mode"] not in MODES:
        yield f"proc.state {line['state']!r}, mode {line['mode']!r}"
    if not 0 <= line["attached_share"] <= 1 or line["mode"] == "exact" and line["attached_share"] != 1:
        yield f"proc.attached_share {line['attached_share']} in mode {line['mode']}"
    yield from not_negative(line, "proc", ("rss_bytes", "anon_bytes", "file_bytes", "shmem_bytes", "swap_bytes", "limit_bytes",
                                           "limit_eta_s"))
    parts = [line[k] for k in ("rss_bytes", "anon_bytes", "file_bytes", "shmem_bytes")]
    if None not in parts and line["state"] == "running" and abs(parts[0] - sum(parts[1:])) > max(1 << 20, parts[0] // 20):
        yield f"proc: rss {parts[0]} is far from anon + file + shmem {parts[1:]}"
    yield from losses(line["losses"], "proc")
    for layer, c in line["layers"].items():
        if layer not in LAYERS:
            yield f"proc.layers has {layer!r}"
        yield from fields(c, PAGE_COUNTS if layer == "page" else COUNTS, f"proc.layers.{layer}")
        # Which calls are counted is the mode; page faults are sampled in each.
        yield from counts(c, f"proc {line['pid']} layer {layer}", line["mode"] == "exact" and layer != "page")


def stack(line):
    what = f"stack {line['stack_id']} of {line['pid']} ({line['site']})"
    if line["layer"] not in LAYERS:
        yield f"{what}: layer {line['layer']!r}"
    try:
        int(line["stack_id"], 16)
    except ValueError:
        yield f"{what}: stack_id is not hexadecimal"
    if line["cut"] not in CUTS or line["complete"] != (line["cut"] is None):
        yield f"{what}: complete is {line['complete']}, cut {line['cut']!r}"
    if line["layer"] == "page" and line["live_bytes"] is not None:
        yield f"{what}: live bytes per stack are not known in layer page"
    if line["layer"] != "page":
        yield from counts(line, what, False)  # whether it should be exact, the process tells
    ages = [line[k] for k in ("age_p50_s", "age_p95_s", "age_max_s")]
    if None not in ages and not 0 <= ages[0] <= ages[1] <= ages[2]:
        yield f"{what}: ages {ages} are not in order"
    if line["leak"] is not None:
        yield from fields(line["leak"], LEAK, f"{what}: leak")
        if line["leak"].get("verdict") not in VERDICTS:
            yield f"{what}: verdict {line['leak'].get('verdict')!r}"
        p = line["leak"].get("probability")
        if p is not None and not 0 <= p <= 1:
            yield f"{what}: probability {p}"
    for f in line["frames"]:
        yield from fields(f, FRAME, f"{what}: frame")
        if not f.get("name"):
            yield f"{what}: a frame without a name"
        if f.get("kind") not in {"native", "python", "kernel"}:
            yield f"{what}: frame kind {f.get('kind')!r}"
        if f.get("line") is not None and (f["line"] < 1 or f.get("file") is None):
            yield f"{what}: line {f['line']} of file {f.get('file')!r}"


def alert(line):
    if line["kind"] not in {"leak", "growth", "threshold", "limit", "oom"}:
        yield f"alert.kind {line['kind']!r}"
    if line["severity"] not in {"info", "warning", "critical"} or line["state"] not in {"firing", "resolved"}:
        yield f"alert.severity {line['severity']!r}, state {line['state']!r}"
    if not line["message"].strip() or "\n" in line["message"]:
        yield f"alert.message {line['message']!r} is not one sentence"


def tick(line):
    yield from fields(line["self"], SELF, "tick.self")
    yield from losses(line["self"].get("losses", {}), "tick.self")
    yield from not_negative(line["self"], "tick.self", SELF)
    for m in line["self"].get("maps", []):
        yield from fields(m, {"name": str, "entries": MAYBE_INT, "capacity": int}, "tick.self.maps")


def end(line):
    if line["reason"] not in ENDS:
        yield f"end.reason {line['reason']!r}"


def group(line):
    what = f"group {line['name']!r} of {line['pid']}"
    if line["by"] not in GROUPS:
        yield f"{what}: by {line['by']!r}"
    if line["stacks"] < 1:
        yield f"{what}: of {line['stacks']} stacks"
    yield from counts(line, what, False)  # whether it should be exact, the process tells


RULES = {"meta": meta, "proc": proc, "stack": stack, "group": group, "alert": alert, "tick": tick, "end": end}


class Checker:
    """Takes the stream line by line. Faults are kept, not thrown: the stream goes on."""

    def __init__(self):
        self.faults = []
        self.n = 0
        self.ticks = 0
        self.last_ts = 0
        self.over = False
        self.stacks_limited = False
        self.procs, self.stacks, self.groups, self.alerts = {}, [], [], []
        self.partly = set()  # processes whose calls were not observed all the time

    def fault(self, text):
        if len(self.faults) < 1000:
            self.faults.append(f"line {self.n}: {text}")

    def feed(self, raw):
        self.n += 1
        if not raw.endswith(b"\n"):
            self.fault("cut off")
        try:
            line = json.loads(raw.decode("utf-8"), parse_constant=lambda c: self.fault(f"{c} is not JSON"))
        except (UnicodeDecodeError, ValueError) as e:
            self.fault(f"not JSON in UTF-8: {e}: {raw[:200]!r}")
            return {"type": "broken"}
        known = LINES.get(line.get("type"))
        if known is None:
            self.fault(f"unknown type {line.get('type')!r}")
            return line
        found = list(fields(line, {**HEAD, **known}, line["type"]))
        if not found:
            found = list(RULES[line["type"]](line)) + list(self.order(line))
        for f in found:
            self.fault(f)
        return line

    def order(self, line):
        kind = line["type"]
        if line["v"] != 1:
            yield f"v is {line['v']}"
        if (self.n == 1) != (kind == "meta"):
            yield f"{kind} as line {self.n}"
        if self.over:
            yield f"{kind} after the end"
        if kind == "proc":
            key = line["pid"], line["start_ts"], line["state"]
            if key in self.procs and line["state"] == "running":
                yield f"process {key} twice in one interval"
            self.procs[key] = line
        elif kind == "stack":
            self.stacks.append(line)
        elif kind == "group":
            self.groups.append(line)
        elif kind == "alert":
            self.alerts.append(line)
        elif kind == "tick":
            yield from self.close(line)
        elif kind == "end":
            self.over = True
            if self.procs or self.stacks:
                yield "lines after the last tick that no tick ends"

    def close(self, line):
        """What must hold over a complete interval."""
        if line["ts"] < self.last_ts:
            yield f"time goes back: {line['ts']} after {self.last_ts}"
        self.last_ts = line["ts"]
        if self.ticks and line["n"] != self.last_n + 1:
            yield f"tick {line['n']} after {self.last_n}"
        self.last_n, self.ticks = line["n"], self.ticks + 1
        if line["procs"] != len(self.procs):
            yield f"tick.procs is {line['procs']}, there were {len(self.procs)} process lines"
        ids = {(p, t) for p, t, _ in self.procs}
        exact = {key[:2] for key, p in self.procs.items() if p["mode"] == "exact"}
        self.partly |= {key[:2] for key, p in self.procs.items() if p["attached_share"] < 1}
        for key, p in self.procs.items():
            for layer, c in p["layers"].items():
                if key[:2] not in self.partly:
                    yield from balance(c, f"proc {p['pid']} layer {layer}")
        for g in self.groups:
            if (g["pid"], g.get("start_ts")) not in self.partly:
                yield from balance(g, f"group {g['name']!r} of {g['pid']}")
        seen = set()
        for s in self.stacks:
            if (s["pid"], s["start_ts"]) not in ids:
                yield f"stack {s['stack_id']} of the process {s['pid']} that has no line"
            key = s["pid"], s["start_ts"], s["layer"], s["stack_id"]
            if key in seen:
                yield f"stack {key} twice in one interval"
            if key[:2] in exact and s["layer"] != "page" and (s["live_bytes_se"] or s["alloc_bytes_total_se"]):
                yield f"stack {s['stack_id']} of {s['pid']}: an exact figure with a standard error"
            if key[:2] not in self.partly:
                yield from balance(s, f"stack {s['stack_id']} of {s['pid']} ({s['site']})")
            seen.add(key)
        for a in self.alerts:
            if a["stack_id"] and a["stack_id"] not in {s["stack_id"] for s in self.stacks}:
                yield f"alert about stack {a['stack_id']}, which is not among the lines of its interval"
        self.procs, self.stacks, self.groups, self.alerts = {}, [], [], []

    def finish(self, ended):
        if ended and not self.over:
            self.fault("no end line")
        return self.faults


def sums(interval, layers=("heap", "map")):
    """With --limit 0: stacks add up to their process, in each layer. Faults."""
    for p in interval.procs:
        for layer in layers:
            if layer not in p["layers"]:
                continue
            mine = [s for s in interval.stacks if (s["pid"], s["start_ts"], s["layer"]) == (p["pid"], p["start_ts"], layer)]
            for k in ("live_bytes", "live_count", "alloc_bytes_total", "alloc_count_total", "free_bytes_total", "free_count_total"):
                total = sum(s[k] for s in mine)
                if total != p["layers"][layer][k]:
                    yield f"pid {p['pid']} layer {layer}: {k} of {len(mine)} stacks is {total}, of the process {p['layers'][layer][k]}"
