# SPDX-License-Identifier: GPL-2.0-or-later
"""A Flask application as services are: templates, JSON in and out, a bounded cache. Counts its answers in the file WORK_FILE (see common.Work)."""
import mmap
import os
import struct

from flask import Flask, jsonify, render_template, request
from jinja2 import DictLoader

PAGE = "<h1>{{ title|e }}</h1><ul>{% for i in items %}<li class='{{ loop.cycle('odd', 'even') }}'>{{ i.name }}: {{ i.price }}</li>{% endfor %}</ul>"
CACHE_MAX = 500

app = Flask(__name__)
app.jinja_loader = DictLoader({"page": PAGE})
cache = {}

with open(os.environ["WORK_FILE"], "r+b") as work_file:
    work = mmap.mmap(work_file.fileno(), 0)


@app.after_request
def count(response):
    n, = struct.unpack_from("<Q", work, 0)
    struct.pack_into("<Q", work, 0, n + 1)
    return response


@app.route("/")
def index():
    return render_template("page", title="All of it", items=[{"name": f"item {i}", "price": i * 1.5} for i in range(50)])


@app.route("/item/<int:n>")
def item(n):
    if len(cache) > CACHE_MAX:
        cache.pop(next(iter(cache)))
    cache[n] = "x" * (n * 37 % 4000)
    return jsonify(n=n, size=len(cache[n]), seen=sorted(cache)[-20:])


@app.route("/echo", methods=["POST"])
def echo():
    return jsonify(request.get_json())
