"""Reading and writing what lies outside."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from attacks.model import Attack, claims, tells_the_secret
from attacks.world import World
from ttd_core.sandbox.base import MIB, JobResult, Limits

_STAT = "Landlock does not cover stat; names and sizes can be seen where folder permissions allow"


def _canary_changed(world: World, result: JobResult) -> str:
    if world.canary.read_text() != "untouched":
        return "the canary was rewritten"
    status = world.canary.stat()
    if status.st_mode & 0o777 != 0o644:
        return "the canary's mode changed"
    return "the canary's time changed" if status.st_mtime != 1e9 else ""


def _home_gained(world: World, result: JobResult) -> str:
    gained = [path.name for path in world.home.iterdir() if path.name not in {".ssh", "canary"}]
    return f"the home holds {gained}" if gained else _canary_changed(world, result)


def _dropped(world: World, result: JobResult) -> str:
    held = [path.name for path in world.drop.iterdir()]
    return f"left {held[:3]} behind" if held else ""


def _packages_changed(world: World, result: JobResult) -> str:
    import numpy as np

    planted = pathlib.Path(np.__file__).parent / f"{world.mark}.py"
    if planted.exists():
        planted.unlink()
        return "a file appeared among the installed packages"
    return ""


def _shadow_control(world: World) -> str:
    """A plain evaluator that runs candidates in one folder: the second imports what the first left there."""
    for source in (SHADOW, "import json; print(json.__file__)"):
        run = subprocess.run(
            [sys.executable, "-c", source + "\nif 'run' in dir(): run({})"],
            cwd=world.drop,
            capture_output=True,
            text=True,
            check=False,
        )
    return "the next program imported the planted module" if str(world.drop) in run.stdout else ""


SHADOW = """
import os
def run(w):
    planted = []
    for folder in (".", os.environ.get("TMPDIR", ".")):
        for name in ("json.py", "numpy.py"):
            try:
                with open(os.path.join(folder, name), "w") as file:
                    file.write("raise ImportError('shadowed')" if name == "numpy.py" else "stolen = 1")
                planted.append(name)
            except OSError:
                pass
    return planted
"""

_WALK = """
import os
def run(w):
    found = []
    for path in ("/home", "/root", "/work", "/srv", "/opt", "/mnt", "/media", os.path.dirname(w["home"])):
        try:
            for folder, _, names in os.walk(path):
                found += [os.path.join(folder, name) for name in names]
                if len(found) > 10:
                    break
        except OSError:
            pass
    return [name for name in found if "/lib/python" not in name]
"""

_NAMELESS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def run(w):
    where, held = os.environ.get("TMPDIR") or w["drop"], []
    for number in range(w["files"]):
        if w["how"] == "tmpfile":
            file = os.open(where, os.O_TMPFILE | os.O_RDWR, 0o600)
        else:
            file = os.open(f"{where}/{number}", os.O_CREAT | os.O_RDWR, 0o600)
            os.unlink(f"{where}/{number}")
        for _ in range(10):
            os.write(file, b"x" * 1_000_000)
        if w["how"] == "mapped":
            # not by Python's mmap, which keeps the file open
            held.append(libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0)))
            os.close(file)
        else:
            held.append(file)
    return len(held)
"""


def _held_too_much(world: World, result: JobResult) -> str:
    """More than the folder may hold, in files of 10 MB each."""
    return claims(world, result) if result.ok and result.value * 10_000_000 > 150e6 else ""


def _nameless(how: str, name: str) -> Attack:
    return Attack(
        name,
        _NAMELESS,
        _held_too_much,
        limits=Limits(wall_s=30.0, memory=512 * MIB, scratch=100 * MIB),
        options={"files": 100, "how": how},
        control_options={"files": 16},
    )


ATTACKS = [
    _nameless("unlinked", "1 GB in open files without a name"),
    _nameless("tmpfile", "1 GB in files that never had a name"),
    _nameless("mapped", "1 GB in mapped files without a name"),
    Attack("read ~/.ssh/id_rsa", "def run(w): return open(w['key']).read()", tells_the_secret),
    Attack("list the hidden folder", "import os\ndef run(w): return os.listdir(w['hidden'])", claims),
    Attack(
        "stat the hidden folder",
        "import os\ndef run(w): return os.stat(w['hidden'] + '/answers.json').st_size",
        claims,
        open_at={"standard": _STAT},
    ),
    Attack(
        "read hidden data", "def run(w): return open(w['hidden'] + '/answers.json').read()", tells_the_secret
    ),
    Attack("walk the machine's folders", _WALK, claims),
    Attack("read the password file", "def run(w): return open('/etc/passwd').read()[:80]", claims),
    Attack("write into the home", "def run(w): open(w['home'] + '/.bashrc', 'w').write('x')", _home_gained),
    Attack("rewrite a file outside", "def run(w): open(w['canary'], 'w').write('x')", _canary_changed),
    Attack("truncate a file outside", "import os\ndef run(w): os.truncate(w['canary'], 0)", _canary_changed),
    Attack("chmod outside", "import os\ndef run(w): os.chmod(w['canary'], 0o777)", _canary_changed),
    Attack("utime outside", "import os\ndef run(w): os.utime(w['canary'], (1, 1))", _canary_changed),
    Attack(
        "rename outside", "import os\ndef run(w): os.rename(w['canary'], w['home'] + '/.x')", _home_gained
    ),
    Attack("drop a file", "def run(w): open(w['drop'] + '/x', 'w').write('x')", _dropped),
    Attack(
        "link a secret into reach",
        "import os\ndef run(w):\n    os.link(w['key'], w['drop'] + '/k')\n    return 1",
        _dropped,
    ),
    Attack(
        "write site-packages",
        "import numpy, os\n"
        "def run(w): open(os.path.dirname(numpy.__file__) + '/' + w['mark'] + '.py', 'w').write('x')",
        _packages_changed,
    ),
    Attack(
        "shadow modules in the working folder",
        SHADOW,
        lambda world, result: "",
        control=_shadow_control,
        limits=Limits(wall_s=8.0, scratch=MIB),
    ),
    Attack(
        "60 files of 15 MB",
        "import os\n"
        "def run(w):\n"
        "    where = os.environ.get('TMPDIR') or w['drop']\n"
        "    for number in range(w['files']):\n"
        "        with open(f'{where}/{number}', 'wb') as file:\n"
        "            file.write(b'x' * 15_000_000)\n"
        "    return sum(os.path.getsize(f'{where}/{number}') for number in range(w['files']))",
        lambda world, result: claims(world, result) if result.ok and result.value > 200e6 else "",
        limits=Limits(wall_s=20.0, memory=512 * MIB, scratch=100 * MIB),
        options={"files": 60},
        control_options={"files": 14},
    ),
]


def running_as_root() -> bool:
    """Whether these attacks start with root's rights."""
    return os.geteuid() == 0
