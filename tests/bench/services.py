# SPDX-License-Identifier: GPL-2.0-or-later
"""The services that are watched under load: Flask under gunicorn, redis-server, postgres; and the load on each."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

from common import BUILD, HERE, Work, children, die_with_parent, h

import oracle

PYTHON = "/usr/bin/python3"
VENV = BUILD / "bench-venv"
CONNECTIONS = 8


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Service(oracle.Program):
    """One that uses a copy of the C library of its own and does not outlive the bench. Between enter and exit it serves."""

    def __init__(self, env):
        super().__init__()
        self.env = env
        self.dir.chmod(0o755)

    def start(self, argv, **kw):
        kw.setdefault("env", self.env)
        # A group of its own: a tool that runs the program is a script with helpers.
        return super().start(argv, preexec_fn=die_with_parent, stdin=subprocess.DEVNULL, start_new_session=True, **kw)

    def setup(self):
        self.serve()

    def __exit__(self, *_):
        super().__exit__()
        for p in self.running:
            end_group(p.pid)
        shutil.rmtree(self.dir, ignore_errors=True)  # recordings of other tools are large

    def pids(self):
        return [self.pid, *children(self.pid)]

    def measure(self, seconds):
        """Loads it for so long; returns figures."""
        raise NotImplementedError

    def warm(self, seconds):
        """Loads it, and asks for nothing."""
        self.measure(seconds)

    def load_steadily(self):
        """Until the end."""
        raise NotImplementedError

    def work(self):
        """How much it has done."""
        raise NotImplementedError

    def busy(self):
        """The process that does it."""
        return self.pid

    def work_often(self):
        """As work, in units of its own; cheap enough to be asked every few milliseconds."""
        return self.work()


def has(python, modules):
    return subprocess.run([python, "-c", f"import {modules}"], capture_output=True, check=False).returncode == 0


class Flask(Service):
    name = "flask"

    def __init__(self, env, command=(), **more_env):
        """command: in place of `python3 -m gunicorn`."""
        super().__init__(dict(env, **more_env))
        self.command, self.counter, self.port = command or [PYTHON, "-m", "gunicorn"], Work(), h.free_port()
        self.env.update(WORK_FILE=str(self.counter.path), PYTHONDONTWRITEBYTECODE="1")
        self.wrk = h.find_program("wrk")

    def serve(self):
        if not has(PYTHON, "flask, gunicorn"):
            raise h.Skip("python3-flask or gunicorn is not installed")
        self.pid = self.start([*self.command, "--chdir", HERE, "-k", "sync", "-w", "1", "-b", f"127.0.0.1:{self.port}",
                               "--worker-tmp-dir", self.dir, "flask_app:app"]).pid
        self.wait_for(lambda: h.listening(self.port), "gunicorn listens")
        self.warm(1)

    def worker(self):
        return children(self.pid)[0]

    busy = worker

    def wrk_command(self, seconds):
        # -d takes whole seconds only.
        return [self.wrk, "-t", "1", "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s", "--timeout", "20s", "-s",
                str(HERE / "flask_load.lua"), f"http://127.0.0.1:{self.port}"]

    def warm(self, seconds):
        # The first answers can take longer than this.
        subprocess.run(self.wrk_command(seconds), stdout=subprocess.DEVNULL, timeout=seconds + 60, check=True)

    def measure(self, seconds):
        self.check_alive()
        done = subprocess.run(self.wrk_command(seconds), capture_output=True, text=True, timeout=seconds + 60, check=False)
        h.check(done.returncode == 0, f"wrk: {done.stderr.strip()}")
        got = json.loads(done.stdout.strip().splitlines()[-1])
        h.check(got["requests"] and not got["errors"], f"wrk: {got}")
        return {"per_s": got["requests"] / got["us"] * 1e6, "p50": got["p50_us"] / 1000, "p99": got["p99_us"] / 1000,
                "max": got["max_us"] / 1000}

    def load_steadily(self):
        super().start(self.wrk_command(86400), env=dict(os.environ))

    def work(self):
        return self.counter.total()


class Redis(Service, oracle.Redis):
    name = "redis"
    TESTS = ("SET", "GET")

    def serve(self):
        oracle.Redis.serve(self)
        self.per_s = 20000.0
        self.bench = [h.find_program("redis-benchmark"), "-h", "127.0.0.1", "-p", str(self.port), "-c", "20", "-r", "10000", "-d", "200"]
        self.measure(0.5)

    def measure(self, seconds):
        """Each test for about that long, by what the one before took."""
        self.check_alive()
        n = max(1000, int(self.per_s * seconds))
        done = subprocess.run([*self.bench, "--csv", "-n", str(n), "-t", ",".join(self.TESTS).lower()], capture_output=True, text=True,
                              timeout=seconds * 20 + 60, check=False)
        got = dict(re.findall(r'^"(\w+)","([\d.]+)"', done.stdout, re.M))
        h.check(set(self.TESTS) <= set(got), f"redis-benchmark: {done.stdout} {done.stderr}")
        figures = {t: float(got[t]) for t in self.TESTS}
        self.per_s = min(figures.values())
        return figures

    def load_steadily(self):
        super().start([*self.bench, "-q", "-l", "-n", "20000", "-t", "set,get,lpush,lpop,hset,zadd"], env=dict(os.environ))

    def work(self):
        """It is asked itself."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(b"INFO stats\r\n")
            text = b""
            while not (found := re.search(rb"total_commands_processed:(\d+)\r\n", text)):
                got = s.recv(65536)
                h.check(got, "redis-server hung up")
                text += got
        return int(found[1])

    def work_often(self):
        """Answers written."""
        with open(f"/proc/{self.pid}/io", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("syscw:"))


class Postgres(Service, oracle.Postgres):
    name = "postgres"

    def serve(self):
        oracle.Postgres.serve(self)
        self.measure(1)

    def measure(self, seconds):
        self.check_alive()
        done = subprocess.run([*self.load, "-c", "4", "-j", "1", "-T", str(max(1, round(seconds))), "postgres"], capture_output=True, text=True,
                              timeout=seconds + 60, check=False)
        found = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
        h.check(found, f"pgbench: {done.stderr.strip()}")
        return {"per_s": float(found[1])}


class Storm(Service):
    """Threads that do nothing but allocate and free; `idle_s`, `storm_s`: in turn."""
    name = "storm"

    def __init__(self, env, threads=8, idle_s=0, storm_s=0):
        super().__init__(env)
        self.counter = Work()
        self.args = [self.counter.path, threads, *((idle_s, storm_s) if storm_s else ())]

    def serve(self):
        self.pid = self.start([BUILD / "bench/storm", *self.args]).pid
        self.wait_for(self.work, "the storm begins")

    def load_steadily(self):
        pass  # it is its own load

    def work(self):
        return self.counter.total()


def venv(*packages):
    """The Python of a virtual environment with these packages, made once; it sees the distribution's too. Skip: it can't be had."""
    python = VENV / "bin/python"
    log = []

    def run(*argv):
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=600)
        log.append(done.stderr.strip()[-200:])
        return done.returncode == 0

    if not python.exists() and not run(PYTHON, "-m", "venv", "--system-site-packages", VENV):
        raise h.Skip(f"no virtual environment: {log[-1]}")
    for p in packages:
        if not has(python, p) and not run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", p):
            raise h.Skip(f"{p} could not be installed: {log[-1]}")
    return str(python)


if __name__ == "__main__":
    print(venv(*sys.argv[1:]))
