#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Flask application under gunicorn with three workers, seen from birth, against the LD_PRELOAD counter."""
import os
import signal
import subprocess
import threading
import urllib.request

import harness as h

APP = """
from flask import Flask, jsonify, render_template_string, request

app = Flask(__name__)
cache = {}

@app.route("/")
def index():
    return render_template_string("<ul>{% for i in items %}<li>{{ i }}</li>{% endfor %}</ul>", items=range(50))

@app.route("/item/<int:n>")
def item(n):
    cache[n] = "x" * (n % 4000)
    return jsonify(n=n, size=len(cache[n]), seen=sorted(cache)[-20:])

@app.route("/echo", methods=["POST"])
def echo():
    return jsonify(request.get_json())
"""


def get(url, data=None):
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as r:
        return r.read()


def flask():
    python = h.find_program("/usr/bin/python3")
    if subprocess.run([python, "-c", "import flask, gunicorn"], capture_output=True, check=False).returncode:
        raise h.Skip("python3-flask or gunicorn is not installed")
    d = h.scratch()
    (d / "app.py").write_text(APP)
    port = h.free_port()
    base = f"http://127.0.0.1:{port}"
    counter = h.Counter(d)

    def load(tool):
        h.wait_until(lambda: h.listening(port), 60, "gunicorn listens")

        def client(k):
            for i in range(150):
                get(base + "/")
                get(f"{base}/item/{i * 7 + k}")
                get(base + "/echo", b'{"a": [1, 2, 3], "b": "' + b"y" * 500 + b'"}')

        threads = [threading.Thread(target=client, args=(k,)) for k in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        interval = tool.fresh()
        workers = [p for p in interval.procs if p["state"] == "running" and any(q["pid"] == p["ppid"] for q in interval.procs)]
        h.check(len(workers) >= 3, f"{len(workers)} workers shown, three run")
        os.kill(int((d / "pid").read_text()), signal.SIGTERM)

    h.run_counted(counter, [python, "-m", "gunicorn", "--chdir", d, "-w", "3", "-b", f"127.0.0.1:{port}", "--pid", d / "pid", "app:app"],
                  120, wanted="^(python3|gunicorn)", while_running=load,
                  limit=10, sites=False)  # some 50,000 stacks: as JSON, each interval, they would be half a gigabyte; 100 of each process keep this reader busy
    h.check(len(counter.records()) >= 4, f"a master and three workers were expected: {counter.records()}")


h.main(flask)
