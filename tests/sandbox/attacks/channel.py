"""The way results come back: forged, malformed, endless."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from attacks.model import Attack
from attacks.world import World
from ttd_core.sandbox.base import MIB, JobResult, Limits

#: Finds the descriptor that results are written to, as any candidate can by trying, and writes raw bytes.
_RAW = """
import json, os, struct, sys
def write(data):
    for number in range(3, 64):
        try:
            sent = os.write(number, data)
        except OSError:
            continue
        while sent < len(data):
            sent += os.write(number, data[sent:])
        return number
def frame(header, body=b"", arrays=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    write(b"ttd1" + struct.pack("=I", len(text)) + text + body + arrays)
def header(body, arrays=(), status="ok", message=""):
    return {"status": status, "message": message, "body": len(body), "arrays": list(arrays)}
"""


def _raw(name: str, body: str, oracle, control, **more) -> Attack:  # type: ignore[no-untyped-def]
    return Attack(name, f"{_RAW}\ndef run(w):\n{body}\n    os._exit(0)\n", oracle, control=control, **more)


def _accepted(world: World, result: JobResult) -> str:
    """A frame that is not one must be refused, as the candidate's fault and not ours."""
    if result.ok:
        return f"accepted as {str(result.value)[:80]}"
    if result.status.value not in {"invalid", "crash", "output_limit"}:
        return f"taken for {result.status}"
    return f"{result.retries} retries" if result.retries else ""


def _bought_a_retry(world: World, result: JobResult) -> str:
    if result.status.value == "infrastructure" or result.retries:
        return f"taken for our own failure: {result.message}"
    return ""


def _executed(world: World, result: JobResult) -> str:
    left = list(world.drop.iterdir())
    return "the trusted process executed the bytes" if left else _accepted(world, result)


def _plain(source: str, world: World) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source], cwd=world.drop, capture_output=True, text=True, check=False
    )


def _claimed_score(world: World) -> str:
    """An evaluator that reads the score from what the program prints."""
    run = _plain("import os\nprint('{\"score\": 1e9}', flush=True)\nos._exit(0)", world)
    return "the forged score was read" if json.loads(run.stdout)["score"] == 1e9 else ""


def _naive_json(text: str) -> str:
    try:
        value = json.loads(text)
    except RecursionError:
        return "the evaluator itself fell over"
    return f"read as {str(value)[:40]}"


def _unpickled(world: World) -> str:
    payload = f"cos\nsystem\n(S'touch {world.drop}/owned'\ntR."
    _plain(f"import pickle; pickle.loads({payload.encode()!r})", world)
    return "the evaluator executed the bytes" if (world.drop / "owned").exists() else ""


def _flood(world: World) -> str:
    """An evaluator that reads what a program prints without counting."""
    run = _plain("import sys\nfor _ in range(40): sys.stdout.write('x' * 1_000_000)", world)
    return f"{len(run.stdout)} bytes taken in" if len(run.stdout) == 40_000_000 else ""


def _flooded(world: World, result: JobResult) -> str:
    if result.ok or len(result.output) > MIB:
        return f"kept {len(result.output)} bytes"
    return "" if result.status.value in {"output_limit", "invalid"} else f"ended as {result.status}"


def _followed(world: World) -> str:
    """An evaluator that opens the output by its name."""
    output = world.drop / "program"
    output.symlink_to(world.key)
    return "the link was followed" if world.secret in output.read_text() else ""


def _blocked_on_fifo(world: World) -> str:
    """An evaluator that opens the output by its name never comes back from a FIFO."""
    output = pathlib.Path(world.drop / "program")
    subprocess.run(["mkfifo", str(output)], check=True)
    try:
        subprocess.run(["cat", str(output)], timeout=0.5, check=False)
    except subprocess.TimeoutExpired:
        return "the reader hangs"
    return ""


def _took_output(world: World, result: JobResult) -> str:
    return "taken as a program" if result.ok or result.artifact else ""


_DEEP = '"[" * 100_000 + "]" * 100_000'

ATTACKS = [
    _raw(
        "16 MiB of empty lists",
        "    data = b'[' + b'[],' * 5_592_000 + b'1]'\n    frame(header(data), data)",
        _accepted,
        lambda world: _naive_json("[" + "[]," * 100_000 + "1]"),
    ),
    _raw(
        "16 MiB of small mappings",
        "    data = b'[' + b'{\"\":0},' * 2_396_000 + b'1]'\n    frame(header(data), data)",
        _accepted,
        lambda world: _naive_json("[" + '{"":0},' * 100_000 + "1]"),
    ),
    _raw(
        "forged score, then _exit(0)",
        "    data = json.dumps({'score': 1e9, 'status': 'infrastructure'}).encode()\n"
        "    frame(header(data, status='infrastructure', message='the server was lost'), data)",
        _bought_a_retry,
        _claimed_score,
    ),
    _raw(
        "two frames",
        "    data = b'1'\n    frame(header(data), data)\n    frame(header(data), data)",
        _accepted,
        _claimed_score,
    ),
    _raw(
        "deep JSON",
        f"    data = ({_DEEP}).encode()\n    frame(header(data), data)",
        _accepted,
        lambda world: _naive_json("[" * 100_000 + "]" * 100_000),
    ),
    _raw(
        "NaN in JSON",
        "    data = b'[NaN]'\n    frame(header(data), data)",
        _accepted,
        lambda world: _naive_json("[NaN]"),
    ),
    _raw(
        "infinity by overflow in JSON",
        "    data = b'[1e999]'\n    frame(header(data), data)",
        _accepted,
        lambda world: _naive_json("[1e999]"),
    ),
    _raw(
        "repeated keys",
        '    data = b\'{"a": 1, "a": 2}\'\n    frame(header(data), data)',
        _accepted,
        lambda world: _naive_json('{"a": 1, "a": 2}'),
    ),
    _raw(
        "NaN in an array",
        "    import struct\n    data = b'{\"$array\": 0}'\n"
        "    frame(header(data, [['float64', [1]]]), data, struct.pack('=d', float('nan')))",
        _accepted,
        lambda world: _naive_json("[NaN]"),
    ),
    _raw(
        "pickle bytes",
        "    write(b\"cos\\nsystem\\n(S'touch \" + w['drop'].encode() + b\"/owned'\\ntR.\")",
        _executed,
        _unpickled,
    ),
    _raw(
        "a dtype of objects",
        "    data = b'{\"$array\": 0}'\n    frame(header(data, [['object', [1]]]), data, b'x' * 8)",
        _accepted,
        _unpickled,
    ),
    _raw(
        "a header of a terabyte",
        "    data = b'{\"$array\": 0}'\n    frame(header(data, [['float64', [1 << 37]]]), data, b'x' * 8)",
        _accepted,
        _flood,
    ),
    _raw(
        "endless result",
        "    data = b'{\"$array\": 0}'\n"
        "    frame(header(data, [['uint8', [1 << 20]]]), data, b'')\n"
        "    while True:\n        write(b'x' * 1_000_000)",
        _flooded,
        _flood,
        limits=Limits(wall_s=8.0, result=16 * MIB),
    ),
    Attack(
        "endless standard output",
        "import sys\ndef run(w):\n    while True:\n        sys.stdout.write('x' * 1_000_000)",
        _flooded,
        control=_flood,
        limits=Limits(wall_s=8.0, output=16 * MIB),
    ),
    Attack(
        "symbolic link as output",
        "@key@",
        _took_output,
        language="compile",
        command=("/bin/sh", "-c", 'read target < main.cpp; ln -s "$target" program', "sh"),
        control=_followed,
        limits=Limits(wall_s=8.0, scratch=MIB),
    ),
    Attack(
        "FIFO as output",
        "int main() {}",
        _took_output,
        language="compile",
        command=("/bin/sh", "-c", "mkfifo program; ls", "sh"),
        control=_blocked_on_fifo,
        limits=Limits(wall_s=8.0, scratch=MIB),
    ),
]
