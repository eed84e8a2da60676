"""Loaded first by every Python of a split evaluation: whoever reads the program's text is refused.

There the text is that of a stand-in, so what an evaluator concluded from it would be wrong. A copy that it
makes by Python's own means counts as the program, and so does a command that is given its name.
"""

from __future__ import annotations

import os
import sys

import ttd_commands
import ttd_stand_in

_PROGRAM = os.environ.get("TTD_PROGRAM", "")
#: Who may open a program's file: what imports it, runs it, copies it or shows a line of it in a traceback.
_READERS = ("_bootstrap_external", "runpy.py", "shutil.py", "linecache.py", "tokenize.py", "py_compile.py")


#: What makes another name for a file: its old path, then its new one.
_COPYING = ("shutil.copyfile", "os.rename", "os.link", "os.symlink")
#: What starts another program: its path, then its words.
_STARTING = ("subprocess.Popen", "os.exec", "os.posix_spawn")
_names = {os.path.basename(_PROGRAM)}


def _name(path):
    return os.path.basename(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""


def _text(word):
    return os.fsdecode(word) if isinstance(word, (str, bytes, os.PathLike)) else str(word)


def _why_not_started(event, args):
    """Why a command that Python starts cannot be split."""
    if event == "os.system":
        return ttd_commands.shell_complaint(_text(args[0]), _names)
    if event not in _STARTING:
        return ""
    words = args[1]
    words = [words] if isinstance(words, (str, bytes, os.PathLike)) else words
    return ttd_commands.complaint([_text(word) for word in words], _names)


def _hook(event, args):
    reason = _why_not_started(event, args)
    if reason:
        ttd_stand_in.refuse(reason)
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
