# SPDX-License-Identifier: GPL-2.0-or-later
"""A Flask application with realistic churn, a bounded cache that is full, and one leak: LEAK_BYTES_PER_MIN, in objects of a few KB, forgotten by requests."""
import collections
import json
import os
import random
import time

from flask import Flask, jsonify, render_template, request
from jinja2 import DictLoader

PAGE = "<h1>{{ title|e }}</h1><ul>{% for i in items %}<li class='{{ loop.cycle('odd', 'even') }}'>{{ i.name }}: {{ i.price }}</li>{% endfor %}</ul>"
CACHE_MAX = 400
LEAK_PER_S = float(os.environ.get("LEAK_BYTES_PER_MIN", 1 << 20)) / 60

app = Flask(__name__)
app.jinja_loader = DictLoader({"page": PAGE})
cache = collections.OrderedDict()
sessions = []  # never emptied
began = time.monotonic()
leaked = 0


def session_keep():
    """Called by every request; keeps something for ever when it is due."""
    global leaked
    while leaked < (time.monotonic() - began) * LEAK_PER_S:
        size = random.randrange(1500, 8000)
        sessions.append(b"s" * size)
        leaked += size


def document_load(n):
    text = json.dumps({"n": n, "lines": [f"line {k} of {n}" for k in range(n % 80 + 5)], "body": "x" * (n * 37 % 6000)})
    return text.encode()


@app.before_request
def before():
    session_keep()


@app.route("/")
def index():
    return render_template("page", title="All of it", items=[{"name": f"item {i}", "price": i * 1.5} for i in range(50)])


@app.route("/item/<int:n>")
def item(n):
    """Least recently used goes."""
    if n not in cache:
        cache[n] = document_load(n)
    cache.move_to_end(n)
    while len(cache) > CACHE_MAX:
        cache.popitem(last=False)
    return jsonify(json.loads(cache[n]))


@app.route("/echo", methods=["POST"])
def echo():
    return jsonify(request.get_json())
