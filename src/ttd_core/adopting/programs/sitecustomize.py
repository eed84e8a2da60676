"""Loaded first by every Python of a split evaluation: whoever reads the program's text is refused.

There the text is that of a stand-in, so what an evaluator concluded from it would be wrong. A copy that it
makes by Python's own means counts as the program.
"""

from __future__ import annotations

import os
import sys

import ttd_stand_in

_PROGRAM = os.environ.get("TTD_PROGRAM", "")
#: Who may open a program's file: what imports it, runs it, copies it or shows a line of it in a traceback.
_READERS = ("_bootstrap_external", "runpy.py", "shutil.py", "linecache.py", "tokenize.py", "py_compile.py")


#: What makes another name for a file: its old path, then its new one.
_COPYING = ("shutil.copyfile", "os.rename", "os.link", "os.symlink")
_names = {os.path.basename(_PROGRAM)}


def _name(path):
    return os.path.basename(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""


def _hook(event, args):
    if event in _COPYING and _name(args[0]) in _names:
        _names.add(_name(args[1]))
    if event != "open" or not args or _name(args[0]) not in _names:
        return
    names = []
    frame = sys._getframe(1)
    while frame is not None and len(names) < 40:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    first = names[0] if names else ""
    shows = any(name.endswith("inspect.py") for name in names)
    if shows or not any(reader in first for reader in _READERS):
        ttd_stand_in.refuse("the evaluator reads the program's text")


if _PROGRAM:
    sys.addaudithook(_hook)
