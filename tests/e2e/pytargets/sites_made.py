# SPDX-License-Identifier: GPL-2.0-or-later
"""
Sites of sites.py: code that is made at run time, long functions, imports.
"""
import importlib
import os
import sys

from truth import S, both, keep

MISSING = {}

# --- long functions: tables of lines with every kind of step ---

def long_source():
    """A function of some 1,500 lines: gaps, lines of more than 256 bytes of code, steps back."""
    text = ["def long_function(sizes):", "    s = iter(sizes)", "    keep(bytearray(next(s)))"]
    text += ["    x = 1"] * 130 + ["    keep(bytearray(next(s)))"]
    text += [""] * 126 + ["    keep(bytearray(next(s)))"]
    text += [""] * 127 + ["    keep(bytearray(next(s)))"]
    text += ["    # nothing"] * 128 + ["    keep(bytearray(next(s)))"]
    text += [""] * 300 + ["    keep(bytearray(next(s)))"]
    text += ["    x = (" + " + ".join("x" for _ in range(200)) + ")", "    keep(bytearray(next(s)))"]
    text += ["    y = [" + ", ".join("x" for _ in range(600)) + "]; keep(bytearray(next(s)))"]
    text += ["    three(", "        1,"] + [""] * 140 + ["        keep(bytearray(next(s))),"] + [""] * 140
    text += ["        keep(bytearray(next(s))))", "    keep(bytearray(next(s)))"]
    text += ["    for i in range(2):"] + ["        x = i"] * 200 + ["        if i: keep(bytearray(next(s)))"]
    text += ["    def inner(s):"] + [""] * 260 + ["        x = 1", "        keep(bytearray(s))", "    inner(next(s))"]
    text += ["    z = (1 if three(", "        x) else", "        2), keep(bytearray(next(s)))"]
    text += ["    try:", "        three(", "            1, {}[0])", "    except KeyError:", "        keep(bytearray(next(s)))"]
    text += ["    return keep(bytearray(next(s)))"]
    return "\n".join(text) + "\n"

def long_functions(folder):
    path = os.path.join(folder, "longer.py")
    with open(path, "w", encoding="utf-8") as f:
        f.write("from truth import keep\n\n\ndef three(*args):\n    return 1\n\n\n" + long_source())
    module = importlib.import_module("longer")
    total = long_source().count("next(s)")
    for label in "cold", "second time":
        module.long_function([S("long function, place %d, %s" % (i, label)) for i in range(total)])

# --- code made at run time ---

def run_code(text, filename, s, mode="exec", **names):
    code = compile(text, filename, mode)
    return (eval if mode == "eval" else exec)(code, dict(names, keep=keep, s=s))

def generated():
    run_code("keep(bytearray(s))", "<made up>", S("exec", native=[0]))
    run_code("\n\n\nkeep(bytearray(s))\n", "/nowhere/at all.py", S("exec, a file name with a blank", native=[0]))
    run_code("keep(bytearray(s))", "<evaluated>", S("eval", native=[0]), mode="eval")
    run_code("(1,\n\n keep(bytearray(s)))", "<evaluated lines>", S("eval over lines", native=[0]), mode="eval")
    run_code("def made(s):\n    keep(bytearray(s))\nmade(s)\n", "<functions>", S("function in exec"))
    run_code("\n" * 70000 + "keep(bytearray(s))", "<far>", S("line 70,001", native=[0]))
    run_code("def gr\u00f6\u00dfe(s):\n keep(bytearray(s))\ngr\u00f6\u00dfe(s)\n", "gr\u00f6\u00dfe.py", S("latin names"))
    run_code("def \u0444(s):\n keep(bytearray(s))\n\u0444(s)\n", "\u0444\u0443\u043d\u043a\u0446\u0438\u044f.py", S("cyrillic names"))
    run_code("class \u6570:\n def \u5b57(self, s):\n  keep(bytearray(s))\n\u6570().\u5b57(s)\n", "\u6570\u5b57.py", S("chinese names"))
    run_code("def \U00010400(s):\n keep(bytearray(s))\n\U00010400(s)\n", "\U0001f40d.py", S("names beyond 16 bits"))
    run_code("def f(s):\n keep(bytearray(s))\nf(s)\n", "broken\udcff.py", S("file name that is not UTF-8"))
    run_code("def %s(s):\n keep(bytearray(s))\n%s(s)\n" % (("n" * 100,) * 2), "/" + "d" * 90 + "/f.py", S("long names"))
    exec("keep(bytearray(S('exec of text', native=[0])))")
    eval("keep(bytearray(S('eval of text', native=[0])))")
    if sys.version_info >= (3, 10):
        run_code("match [1, 2]:\n case [1]:\n  pass\n case [1, x] if keep(bytearray(s)) is None:\n  pass\n", "<match>",
                 S("guard of a case", native=[0]))
    if sys.version_info >= (3, 11):
        run_code("try:\n raise ExceptionGroup('g', [KeyError()])\nexcept* KeyError as e:\n keep(bytearray(s))\n", "<groups>",
                 S("except*", native=[0]))
    if sys.version_info >= (3, 12):
        run_code("def f[T](x=keep(bytearray(s))):\n return x\n", "<generic>", S("default of a generic function", native=[0]))
        run_code("class C[T](object if keep(bytearray(s)) else list):\n pass\n", "<generic class>", S("bases of a generic class"))
        run_code("def f[T: keep(bytearray(s))](): pass\nf.__type_params__[0].__bound__\n", "<bound>", S("bound of a type", native=[0]))
    if sys.version_info >= (3, 14):
        run_code("def f(x: keep(bytearray(s))): pass\nf.__annotations__\n", "<annotations>", S("annotation, evaluated late", native=[0]))
        run_code("t'{keep(bytearray(s))}'\n", "<template>", S("template string", native=[0]))

# --- imports ---

MODULE = """
from truth import S, keep

x = [1,
     keep(bytearray(S("import, %(name)s")))]

def later(s):
    keep(bytearray(s))
%(more)s
"""

def put(folder, name, text):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path

def imports(folder):
    import py_compile
    import zipfile
    put(folder, "imported_first.py", MODULE % dict(name="first", more="import imported_second"))
    put(folder, "imported_second.py", MODULE % dict(name="second", more=""))
    put(folder, "package/__init__.py", MODULE % dict(name="package", more="from . import member"))
    put(folder, "package/member.py", MODULE % dict(name="member", more=""))
    path = put(folder, "elsewhere/compiled.py", MODULE % dict(name="compiled", more=""))
    py_compile.compile(path, cfile=os.path.join(folder, "compiled.pyc"), dfile="said/to/be/compiled.py")
    with zipfile.ZipFile(os.path.join(folder, "zipped.zip"), "w") as z:
        z.writestr("from_zip.py", MODULE % dict(name="zip", more=""))
    sys.path.append(os.path.join(folder, "zipped.zip"))
    importlib.invalidate_caches()
    for name in "imported_first", "package", "compiled", "from_zip":
        try:
            module = importlib.import_module(name)
        except ImportError as e:
            MISSING["import " + name] = str(e)
            continue
        both("function of an imported module, " + name, module.later)
