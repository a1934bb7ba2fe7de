# SPDX-License-Identifier: GPL-2.0-or-later
"""
Real programs under load, and two questions about their native stacks. Complete: which share of the allocated bytes has a stack that reaches its
thread's start. Right: what libdw finds (tests/oracle) from the registers and the stack memory of the same hits, frame for frame.
"""
import collections
import grp
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import harness as h

COMPLETE_PCT = 99.0
RIGHT_PCT = 99.5
UNJUDGED_PCT = 10.0  # of short-lived processes
HITS_MIN = 2000  # per program: six of them make more than 10,000
HITS_MAX = 6000  # of more, so many are judged, evenly spread
HIT_BYTES = 24 + 8 * 17 + 16384  # struct hit_record


# --- the programs ---

class Program:
    """Running and ready between enter and exit; `pid` is observed, its children too."""
    name = ""
    end_signal = signal.SIGTERM

    def __init__(self):
        self.dir = h.scratch(f"tidemark-{self.name}-")
        self.running = []
        self.pid = 0

    def start(self, argv, **kw):
        self.running.append(h.Process(argv, stdout=subprocess.DEVNULL, **kw))
        return self.running[-1]

    def wait_for(self, condition, what):
        def look():
            self.check_alive()
            return condition()

        h.wait_until(look, 30, what)

    def setup(self):
        raise NotImplementedError

    def __enter__(self):
        try:
            self.setup()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for p in reversed(self.running):
            p.kill(self.end_signal)
            try:
                p.p.wait(5)
            except subprocess.TimeoutExpired:
                pass
            p.end()

    def check_alive(self):
        for p in self.running:
            h.check(p.p.poll() is None, f"{p.argv[0]} ended with {p.p.returncode}: {p.errors().strip()[-500:]}")


class Redis(Program):
    name = "redis"

    def serve(self):
        self.port = h.free_port()
        self.pid = self.start([h.find_program("redis-server"), "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                               "--dir", self.dir]).pid
        self.wait_for(lambda: h.listening(self.port), "redis-server listens")

    def setup(self):
        bench = h.find_program("redis-benchmark")
        self.serve()
        self.start([bench, "-h", "127.0.0.1", "-p", self.port, "-q", "-l", "-n", "5000", "-c", "10", "-r", "5000", "-d", "200", "-t",
                    "set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin,mset,lrange_100"])


class Postgres(Program):
    name = "postgres"
    end_signal = signal.SIGINT  # without waiting for clients
    SETTINGS = {"listen_addresses": "", "fsync": "off", "shared_buffers": "16MB", "max_connections": "20", "autovacuum_naptime": "1s"}

    def program(self, name):
        where = h.find_program("pg_ctl", *sorted(f"{d}/pg_ctl" for d in self.bins()))
        return os.path.join(os.path.dirname(os.path.realpath(where)), name)

    @staticmethod
    def bins():
        top = "/usr/lib/postgresql"
        return [f"{top}/{v}/bin" for v in os.listdir(top)] if os.path.isdir(top) else []

    def serve(self):
        initdb, server, bench = (self.program(n) for n in ("initdb", "postgres", "pgbench"))
        users = {u.pw_name for u in pwd.getpwall()}
        user = "postgres" if "postgres" in users else "nobody"  # it refuses to run as root
        shutil.chown(self.dir, user)
        data = self.dir / "data"
        as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": self.dir}
        made = subprocess.run([initdb, "-D", data, "-U", "bench", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"], check=False,
                              capture_output=True, text=True, timeout=120, **as_user)
        h.check(made.returncode == 0, f"initdb: {made.stderr.strip()}")
        options = [x for k, v in self.SETTINGS.items() for x in ("-c", f"{k}={v}")]
        self.pid = self.start([server, "-D", data, "-k", self.dir, *options], **as_user).pid
        self.load = [bench, "-h", self.dir, "-U", "bench", "-n"]
        status = data / "postmaster.pid"
        self.wait_for(lambda: status.exists() and status.read_text().split()[-1] == "ready", "postgres is ready")
        made = subprocess.run([*self.load, "-i", "-s", "1", "-q", "postgres"], check=False, capture_output=True, text=True, timeout=60)
        h.check(made.returncode == 0, f"pgbench -i: {made.stderr.strip()}")

    def setup(self):
        self.serve()
        self.start([*self.load, "-c", "2", "-T", "600", "postgres"])
        self.start([*self.load, "-c", "2", "-C", "-R", "5", "-T", "600", "postgres"])


CLIENT = """
import http.client, sys, threading
def client(k):
    while True:
        c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
        for path in ("/small", "/large", "/", "/none", "/moved", "/large"):
            c.request("GET", path + "?n=%d" % k, headers={"Accept-Encoding": "gzip", "Cookie": "x" * 500})
            c.getresponse().read()
        c.close()
for k in range(3):
    threading.Thread(target=client, args=(k,)).start()
"""


class Nginx(Program):
    name = "nginx"
    CONF = """
        daemon off; worker_processes 1; user nobody {group}; pid {d}/pid; error_log {d}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log {d}/access.log; gzip on; gzip_min_length 100; gzip_types *; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy;
            fastcgi_temp_path {d}/fastcgi; uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
            server {{
                listen 127.0.0.1:{port}; root {d}/www; autoindex on;
                location /moved {{ rewrite ^ /small permanent; }}
            }}
        }}"""

    def setup(self):
        server = h.find_program("nginx", "/usr/sbin/nginx")
        port = h.free_port()
        (self.dir / "www").mkdir()
        self.dir.chmod(0o755)
        (self.dir / "www" / "small").write_text("small\n" * 5)
        (self.dir / "www" / "large").write_text("".join(f"line {i * 7919}\n" for i in range(3000)))
        (self.dir / "conf").write_text(self.CONF.format(d=self.dir, port=port, group=grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name))
        self.pid = self.start([server, "-c", self.dir / "conf", "-p", self.dir, "-e", self.dir / "error.log"]).pid
        self.wait_for(lambda: h.listening(port), "nginx listens")
        self.start([sys.executable, "-c", CLIENT, port])


class Script(Program):
    """Debian's python3 with a script that works until it is ended."""
    text = needs = ""

    def setup(self):
        python = h.find_program("/usr/bin/python3")
        if self.needs and subprocess.run([python, "-c", f"import {self.needs}"], capture_output=True, check=False).returncode:
            raise h.Skip(f"{python} has no {self.needs}")
        script = self.dir / "work.py"
        script.write_text(textwrap.dedent(self.text) + f"\nopen({str(self.dir / 'ready')!r}, 'w').close()\nmain()\n")
        self.pid = self.start([python, script]).pid
        self.wait_for((self.dir / "ready").exists, "the script runs")


class Python(Script):
    name = "python"
    text = """
        import json, re, sqlite3, threading, time

        def documents(n):
            return [{"id": i, "name": "user %d" % i, "tags": ["t%d" % (i % k) for k in range(1, 9)], "text": "lorem ipsum " * (i % 50)}
                    for i in range(n)]

        def nested(n):
            return {"n": n, "in": nested(n - 1)} if n else {}

        def work(seed):
            db = sqlite3.connect(":memory:")
            db.execute("create table t (id integer primary key, body text)")
            while True:
                seed += 1
                texts = [json.dumps(d) for d in documents(100)]
                db.executemany("insert into t (body) values (?)", ((t,) for t in texts))
                back = [json.loads(t) for (t,) in db.execute("select body from t order by body desc limit 50")]
                back.sort(key=lambda d: d["name"] * 2)
                found = [re.sub(r"(ipsum|user \\d+)", lambda m: m[1] * 40, t) for t in texts]
                pattern = re.compile("(user|tag%d)+x{1,%d}|%s" % (seed % 7, seed % 90 + 1, "|".join(map(re.escape, texts[0].split()))))
                json.loads(json.dumps(nested(60)))
                db.execute("delete from t where id % 3 = 0")
                bytes(seed % 10000 + len(found) + len(back) + len(pattern.pattern))
                time.sleep(0.01)

        def main():
            for k in range(3):
                threading.Thread(target=work, args=(k,)).start()
    """


class Numpy(Script):
    name, needs = "numpy", "numpy"
    text = """
        import threading, time
        import numpy as np

        def work(seed):
            rng = np.random.default_rng(seed)
            while True:
                a = rng.random((60, 60))
                b = np.linalg.svd(a @ a.T)[1]
                np.fft.fft(a).real.sum(axis=0)
                np.sort(np.concatenate([a.ravel(), b]), kind="stable")
                np.unique(rng.integers(0, 1000, 5000), return_inverse=True)
                np.array(["item %d" % i for i in range(200)]).astype(object).tolist()
                np.einsum("ij,jk->ik", a, a)
                np.vectorize(lambda x: x * 2 + 1)(a[0])
                a[a > 0.5] += np.where(a > 0.7, a, 0)[a > 0.5]
                time.sleep(0.005)

        def main():
            for k in range(3):
                threading.Thread(target=work, args=(k,)).start()
    """


class Cpp(Program):
    name = "cpp"

    def setup(self):
        plain, = h.build("stacks_cpp")
        stripped = self.dir / "stacks_cpp"
        subprocess.run([h.find_program("strip"), "-o", stripped, plain], check=True)
        self.pid = self.start([stripped]).pid


# --- complete ---

def last_stacks(lines):
    """The last line of each heap stack of the whole run; of processes that ended, their last."""
    return list({(s["pid"], s["start_ts"], s["stack_id"]): s for s in lines if s["type"] == "stack"}.values())


def print_cut(stacks, total, n=8):
    """Why stacks are not complete, by reason and by where they end."""
    sums = collections.Counter()
    for s in stacks:
        if not s["complete"]:
            frames = s["frames"]
            sums[s.get("cut", "?"), s["site"], frames[-1]["name"] if frames else "-", len(frames)] += s["alloc_bytes_total"]
    for (cut, site, outermost, depth), size in sums.most_common(n):
        print(f"       {100 * size / total:6.3f} % cut {cut}: {site} ... {outermost} ({depth} frames)")


def observe(program, seconds, enough, plenty=lambda: False, env=None):
    """
    The lines of the tool, run over the program for some seconds and until there is enough, told by the path of the lines; or until there is
    plenty. They go through a file: programs that fork often have more of them than a pipe's reader in Python keeps up with while it measures.
    """
    if not h.TOOL.exists():
        raise h.Skip(f"{h.TOOL.name} is not built")
    path = h.scratch() / "lines"
    argv = [h.TOOL, "top", "--mode", "exact", "-f", "json", "-i", "1", "--layer", "heap", "--limit", "0", "-p", program.pid]
    with open(path, "wb") as out, h.Process(argv, stdout=out, env=dict(os.environ, **(env or {}))) as tool:
        def runs(condition):
            program.check_alive()
            h.check(tool.p.poll() is None, f"tidemark ended with {tool.p.returncode}: {tool.errors().strip()}")
            return condition()

        def is_attached():
            return b'{"type":"tick"' in path.read_bytes().replace(b" ", b"") or plenty()

        h.wait_until(lambda: runs(is_attached), 30, "the first tick", step=0.1)
        end = time.monotonic() + seconds
        h.wait_until(lambda: runs(lambda: plenty() or time.monotonic() > end and enough(path)), seconds + 90, "there is enough", step=0.1)
        tool.kill(signal.SIGINT)
        h.check_equal(tool.wait(15, "tidemark"), 0, f"exit code after SIGINT ({tool.errors().strip()})")
    checker = h.contract.Checker()
    with open(path, "rb") as lines:
        said = [checker.feed(raw) for raw in lines]
    faults = checker.finish(ended=True)
    h.check(not faults, f"the JSON lines break the contract: {'; '.join(faults[:8])} ({len(faults)} in all)")
    return said


def calls_in(path):
    """Allocations of the processes that were shown."""
    last = {}
    with open(path, "rb") as lines:
        for raw in lines:
            if raw.endswith(b"\n") and b'"proc"' in raw[:40]:
                p = json.loads(raw)
                last[p["pid"], p["start_ts"]] = p["layers"].get("heap", {}).get("alloc_count_total", 0)
    return sum(last.values())


def check_complete(program, seconds=4):
    stacks = last_stacks(observe(program, seconds, lambda path: calls_in(path) >= 2 * HITS_MIN))
    total = sum(s["alloc_bytes_total"] for s in stacks)
    calls = sum(s["alloc_count_total"] for s in stacks)
    whole = sum(s["alloc_bytes_total"] for s in stacks if s["complete"])
    h.check(calls >= HITS_MIN, f"{program.name}: {calls} allocations of {total} bytes in {seconds} s are too few to say anything")
    print(f"     {program.name}: {100 * whole / total:.3f} % of {total} bytes complete ({calls} allocations, {len(stacks)} stacks)")
    print_cut(stacks, total)
    h.check(100 * whole >= COMPLETE_PCT * total,
            f"{program.name}: {100 * whole / total:.2f} % of the bytes have a complete stack, not {COMPLETE_PCT} %")


# --- right ---

def build_oracle(*names):
    paths = [h.BUILD / "oracle" / n for n in names]
    wanted = [str(p.relative_to(h.ROOT)) if p.is_relative_to(h.ROOT) else str(p) for p in paths]
    made = subprocess.run(["make", "-s", "-C", str(h.ROOT)] + wanted, capture_output=True, text=True, check=False)
    h.check(made.returncode == 0, f"make {' '.join(names)}: {made.stderr.strip()}")
    return paths


def judge(folder, *args):
    """What the oracle says of a folder of hits: (its line, the examples that it printed)."""
    oracle, = build_oracle("oracle")
    done = subprocess.run([oracle, *args, folder], capture_output=True, text=True, errors="replace", timeout=120, check=False)
    h.check(done.returncode in (0, 1) and done.stdout, f"oracle ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    said = json.loads(done.stdout)
    h.check((done.returncode == 0) == said["good"], f"oracle: exit {done.returncode}, but {said}")
    return said, done.stderr


def check_right(program, seconds=6):
    folder = h.scratch("tidemark-hits-")
    hits = folder / "hits"

    def recorded():
        return hits.stat().st_size // HIT_BYTES if hits.exists() else 0

    observe(program, seconds, lambda _: recorded() >= HITS_MIN, lambda: recorded() >= 2 * HITS_MAX, {"TIDEMARK_HITS": str(folder)})
    n = recorded()
    h.check(n >= HITS_MIN, f"{program.name}: {n} hits recorded, {HITS_MIN} are needed")
    said, examples = judge(folder, "-n", str(HITS_MAX))
    same = said["equal"] + said["prefix_equal"]
    print(f"     {program.name}: {100 * same / said['hits']:.3f} % of {said['hits']} hits equal: {said}")
    print(textwrap.indent(examples, "       "), end="")
    h.check(100 * same >= RIGHT_PCT * said["hits"], f"{program.name}: {same} of {said['hits']} hits are as libdw unwinds them: {said['differ']}")
    h.check(100 * said["unjudged"] <= UNJUDGED_PCT * (said["unjudged"] + said["hits"]), f"{program.name}: too many can't be judged: {said}")
    # Hits of deep stacks are judged in part only; so many that little is compared would be no comparison.
    h.check(said["equal"] >= said["prefix_equal"], f"{program.name}: most hits are compared in part only: {said}")


def main(kind):
    """The two checks of one program."""
    def complete():
        with kind() as program:
            check_complete(program)

    def right():
        with kind() as program:
            check_right(program)

    h.main(complete, right)
