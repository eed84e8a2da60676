"""Run a task's evaluator on a program, inside the sandbox, and give back what it says, within bounds.

Everything is made in the job's scratch folder: the program, a folder to work in with links to the task's
files, one for temporary files, a home. What comes back is "the evaluator's word", and no more.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time

_MOST_BYTES = 4 << 20
_MOST_ENTRIES = 200
_MOST_CHARS = 8000
_ALL_CHARS = 60000
_DEEPEST = 6


class Failed(Exception):
    """The evaluator gave no result; one line."""


class Asked(Exception):
    """A split evaluation ended early: calls of the program are asked for, or it cannot be split."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer


def run(plan):
    """Evaluate.

    :param plan: see :func:`ttd_core.adopting.evaluation.evaluation_job`.
    :return: ``metrics``, ``artifacts``, ``correct`` and ``error`` where they are said; or ``failed``, a line.
    """
    try:
        places = _prepare(plan)
        answer = _CALLS[plan["call"]](plan, places)
    except Failed as error:
        return {"failed": _line(str(error))}
    except Asked as asked:
        return asked.answer
    if plan["call"] == "calls":
        return answer
    unused = _unused(plan)
    if unused:
        answer["unused"] = unused
    budget = [_ALL_CHARS]
    return {
        name: _line(each) if name in ("failed", "error") and isinstance(each, str) else _bounded(each, budget)
        for name, each in answer.items()
    }


def _prepare(plan):
    """Make the folders and files of one evaluation.

    :return: where things are: ``scratch``, ``program``, ``work``, ``ttd``, and the ``environment``.
    """
    scratch = os.getcwd()
    for name in ("shm", "tmp", "home", "work", "bin", "program", "results", "ttd"):
        os.makedirs(name, exist_ok=True)
    places = {name: os.path.join(scratch, name) for name in ("work", "ttd", "results")}
    beside = plan["call"] == "popcorn"
    places["program"] = os.path.join(scratch, "work" if beside else "program", plan["program_name"])
    for name, text in plan["modules"].items():
        path = os.path.join(places["ttd"], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write(path, text)
    # Whatever an evaluator reads from its working folder is there; what it writes there is new.
    for folder in plan["folders"]:
        for name in os.listdir(folder):
            if not os.path.lexists(f"work/{name}"):
                os.symlink(os.path.join(folder, name), f"work/{name}")
    for name, path in plan["files"].items():
        if os.path.lexists(f"work/{name}"):
            os.unlink(f"work/{name}")
        # a copy: a Python looks for modules beside what a link leads to
        shutil.copyfile(path, f"work/{name}")
    if os.path.lexists(places["program"]):
        os.unlink(places["program"])
    _write(places["program"], plan["program"])
    _link_python(plan["python"])
    search = [*plan["search"], *([os.path.join(places["ttd"], "modules")] if plan["modules"] else [])]
    if plan["first"]:
        search.insert(0, os.path.join(places["ttd"], "first"))
    if plan["record"] is not None:
        for name in ("record", "asked", "used", "refused"):
            os.makedirs(f"{_SPLIT}/{name}", exist_ok=True)
        for each in plan["record"]:
            _write(f"{_SPLIT}/record/{each['identity']}", json.dumps(each))
    places["environment"] = {
        **os.environ,
        "PATH": f"{scratch}/bin:{os.environ['PATH']}",
        "HOME": f"{scratch}/home",
        "TMPDIR": f"{scratch}/tmp",
        "MPLCONFIGDIR": f"{scratch}/home",
        "PYTHONPATH": ":".join(search),
        "PYTHONIOENCODING": "utf-8:replace",
        "TTD_SPLIT": os.path.join(scratch, _SPLIT),
        "TTD_PROGRAM": places["program"] if plan["record"] is not None else "",
    }
    return places


def _link_python(python):
    """Make ``python`` and ``python3`` of the search path the task's own.

    Links, for where jobs have no view of their own they start nothing that lies in the scratch folder.
    """
    for name in ("python", "python3"):
        os.symlink(python, f"bin/{name}")
    # Of a virtual environment Python knows by the file beside the link that it was started by.
    environment = os.path.dirname(os.path.dirname(python))
    if os.path.isfile(os.path.join(environment, "pyvenv.cfg")):
        for name in ("pyvenv.cfg", "lib"):
            os.symlink(os.path.join(environment, name), name)


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _start(command, places, stdout=None, **options):
    """Run a command in the working folder to its end.

    :return: its exit code.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=places["work"],
            env={**places["environment"], **options.pop("environment", {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            **options,
        )
    except OSError as error:
        raise Failed(f"{command[0]} cannot be started: {error.strerror}") from None
    if not os.path.isdir(_SPLIT):
        return process.wait()
    while process.poll() is None:
        _look_for_asked()
        time.sleep(0.01)
    _look_for_asked()
    return process.returncode


#: Folder of a split evaluation, in the scratch folder: see ``stand_in.py``.
_SPLIT = "split"
#: Seconds in which processes that call at the same time may all ask.
_TOGETHER_S = 0.05


def _look_for_asked():
    """End a split evaluation where it asks for calls, or is refused."""
    if os.path.exists(f"{_SPLIT}/refused/reason"):
        raise Asked({"refused": _line(_read(f"{_SPLIT}/refused/reason"))})
    if not _asked():
        return
    time.sleep(_TOGETHER_S)
    calls = [json.loads(_read(f"{_SPLIT}/asked/{name}")) for name in _asked()]
    raise Asked({"asked": calls, "used": sorted(os.listdir(f"{_SPLIT}/used"))})


def _asked():
    return sorted(name for name in os.listdir(f"{_SPLIT}/asked") if not name.endswith(".part"))


def _unused(plan):
    """How many recorded calls a split evaluation that has ended did not make."""
    used = set(os.listdir(f"{_SPLIT}/used")) if plan["record"] else set()
    return sum(each["identity"] not in used for each in plan["record"] or ())


def _ended(code, what="the evaluator"):
    """How a process ended that left no result, in words."""
    if code >= 0:
        return f"{what} ended with exit code {code} and left no result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{what} was killed by {name}"


def _read(path):
    """A file's text; ``None`` where there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError:
        return None
    if len(data) > _MOST_BYTES:
        raise Failed(f"the evaluator's result takes more than {_MOST_BYTES >> 20} MiB")
    return data.decode("utf-8", "replace")


def _json(text, what):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failed(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Failed(f"{what} is not an object of JSON")
    return value


def _function(plan, places):
    """``evaluate(path)`` of a Python file, or its stages."""
    answer = os.path.join(places["ttd"], "answer.json")
    settings = {name: plan[name] for name in ("path", "call", "thresholds")}
    _write(
        f"{places['ttd']}/plan.json", json.dumps({**settings, "program": places["program"], "answer": answer})
    )
    _write(f"{places['ttd']}/call.py", plan["caller"])
    code = _start([plan["python"], f"{places['ttd']}/call.py", f"{places['ttd']}/plan.json"], places)
    text = _read(answer)
    if text is None:
        raise Failed(_ended(code))
    return _json(text, "what the evaluator left")


def _look_at_trace(path, script, places):
    """Refuse a split evaluation whose script gives the program's file to what reads it, or runs it."""
    place = os.path.join(places["ttd"], "first", "ttd_commands.py")
    spec = importlib.util.spec_from_file_location("ttd_commands", place)
    commands = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(commands)
    with open(path, "rb") as file:
        trace = file.read(_MOST_BYTES).decode("utf-8", "replace")
    reason = commands.trace_complaint(trace, script, {os.path.basename(places["program"])})
    if reason:
        raise Asked({"refused": reason})


#: Exit codes by which a shell says that a program was not started, or not found.
_NOT_STARTED = (126, 127)


def _shell(plan, places):
    """``evaluate.sh PATH MODE``, which prints JSON; by ``/benchmark`` its own folder is meant."""
    script = plan["path"]
    text = _read(script)
    if text is None:
        raise Failed(f"{script} cannot be read in the sandbox")
    if "/benchmark" in text and not os.path.exists("/benchmark"):
        # where jobs have no view of their own, the link lies in the scratch folder, whose name has no blanks
        folder = os.path.join(places["ttd"], "benchmark")
        os.mkdir(folder)
        # beside the changed script lies what it finds beside itself
        for name in os.listdir(os.path.dirname(script)):
            os.symlink(os.path.join(os.path.dirname(script), name), os.path.join(folder, name))
        text = re.sub(r"(?<![\w./-])/benchmark(?![\w-])", folder, text)
        script = os.path.join(folder, os.path.basename(script))
        os.unlink(script)
        _write(script, text)
    printed = os.path.join(places["ttd"], "printed")
    with open(printed, "wb") as file, open(os.path.join(places["ttd"], "trace"), "wb") as trace:
        told = {"pass_fds": [trace.fileno()], "environment": {"BASH_XTRACEFD": str(trace.fileno())}}
        split = plan["record"] is not None
        command = ["bash", *(["-x"] if split else []), script, places["program"], "train"]
        code = _start(command, places, file, **(told if split else {}))
    if split:
        _look_at_trace(trace.name, text, places)
    said = _read(printed) or ""
    if code:
        print(said[-4000:])
        if code in _NOT_STARTED and not os.access("bin/python", os.X_OK):
            raise Failed(
                f"{os.path.basename(script)} cannot start {plan['python']}, which lies in a folder that is "
                "closed to jobs at this level of the sandbox; name another Python with -o python=PATH"
            )
        raise Failed(_ended(code, os.path.basename(plan["path"])))
    lines = [line for line in said.splitlines() if line.strip()]
    whole = said.strip()
    if not whole.startswith("{") and lines and lines[-1].lstrip().startswith("{"):
        whole = lines[-1]
    answer = _json(whole, f"what {os.path.basename(plan['path'])} printed") if whole else None
    if answer is None:
        raise Failed(f"{os.path.basename(plan['path'])} printed nothing")
    metrics = answer.get("metrics")
    metrics = dict(metrics) if isinstance(metrics, dict) else {}
    if "combined_score" in answer:
        metrics.setdefault("combined_score", answer["combined_score"])
    artifacts = answer.get("artifacts")
    artifacts = artifacts if isinstance(artifacts, dict) else {}
    status = answer.get("status", "success")
    error = None
    if status != "success":
        words = artifacts.get("error")
        error = words if isinstance(words, str) and words else f"the evaluator's status is {status}"
    return {"metrics": metrics, "artifacts": artifacts, "error": error}


def _script(plan, places):
    """``evaluate.py --program_path PATH --results_dir FOLDER``, which writes two files."""
    arguments = ["--program_path", places["program"], "--results_dir", places["results"]]
    code = _start([plan["python"], plan["path"], *arguments], places)
    metrics = _read(f"{places['results']}/metrics.json")
    correct = _read(f"{places['results']}/correct.json")
    if metrics is None or correct is None:
        raise Failed(_ended(code) + (" (metrics.json)" if metrics is None else " (correct.json)"))
    said = _json(correct, "correct.json")
    error = said.get("error")
    return {
        "metrics": _json(metrics, "metrics.json"),
        "artifacts": {},
        "correct": said.get("correct") is True,
        "error": error if isinstance(error, str) and said.get("correct") is not True else None,
    }


def _popcorn(plan, places):
    """``eval.py test CASES``, then ``eval.py benchmark CASES``; nanoseconds become microseconds."""
    tests = _popcorn_mode(plan, places, "test", plan["tests"])
    if tests.get("check") != "pass":
        wrong = [name for name, text in tests.items() if name.endswith(".status") and text == "fail"]
        first = wrong[0].rpartition(".")[0] if wrong else "test"
        words = tests.get(f"{first}.error", "no word why")
        return {"metrics": {}, "artifacts": {}, "correct": False, "error": f"{first} failed: {words}"}
    timed = _popcorn_mode(plan, places, "benchmark", plan["benchmarks"])
    if timed.get("check") != "pass":
        wrong = [text for name, text in timed.items() if name.endswith(".error")]
        words = wrong[0] if wrong else "no word why"
        return {"metrics": {}, "artifacts": {}, "correct": False, "error": f"a benchmark failed: {words}"}
    metrics = {}
    logs = []
    for number in range(len(plan["benchmarks"])):
        try:
            mean = float(timed[f"benchmark.{number}.mean"]) / 1000
        except (KeyError, ValueError):
            raise Failed(f"the evaluator said no mean of benchmark {number}") from None
        if not (math.isfinite(mean) and mean > 0):
            raise Failed(f"the evaluator's mean of benchmark {number} is {mean}")
        metrics[f"benchmark_{number}_us"] = mean
        logs.append(math.log(mean))
    scores = {"mean": sum(map(math.exp, logs)) / len(logs), "last": math.exp(logs[-1])}
    metrics[plan["metric"]] = scores.get(plan["metric"], math.exp(sum(logs) / len(logs)))
    return {"metrics": metrics, "artifacts": {}, "correct": True}


def _popcorn_mode(plan, places, mode, cases):
    """What ``eval.py`` says in one mode, by key."""
    listed = os.path.join(places["work"], f"{mode}.txt")
    _write(listed, "\n".join(cases) + "\n")
    said = os.path.join(places["ttd"], f"{mode}.said")
    with open(said, "wb") as file:
        code = _start(
            [plan["python"], os.path.join(places["work"], plan["main"]), mode, listed],
            places,
            pass_fds=[file.fileno()],
            environment={"POPCORN_FD": str(file.fileno()), "POPCORN_SEED": str(plan["seed"])},
        )
    lines = (_read(said) or "").splitlines()
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    if "check" not in told:
        raise Failed(_ended(code, f"eval.py {mode}"))
    return told


def _one_call(plan, places):
    """One function of the program, with arguments that are given as text."""
    answer = os.path.join(places["ttd"], "answer.json")
    settings = {name: plan[name] for name in ("name", "arguments", "folders")}
    settings.update(ttd=os.path.join(places["ttd"], "first"), program=places["program"], answer=answer)
    _write(f"{places['ttd']}/plan.json", json.dumps(settings))
    _write(f"{places['ttd']}/functions.py", plan["caller"])
    code = _start([plan["python"], f"{places['ttd']}/functions.py", f"{places['ttd']}/plan.json"], places)
    text = _read(answer)
    if text is None:
        raise Failed(_ended(code, "the program"))
    return _json(text, "what the program left")


_CALLS = {
    "calls": _one_call,
    "function": _function,
    "stages": _function,
    "shell": _shell,
    "script": _script,
    "popcorn": _popcorn,
}


def _line(text):
    return " ".join(text.split())[:1000]


def _bounded(value, budget, depth=0):
    """A value of JSON cut to size; numbers that are not finite as text.

    :param budget: characters that are left for all of it.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        return str(value) if abs(value) < 1 << 4000 else "a huge integer"
    if isinstance(value, str):
        cut = value[: max(0, min(_MOST_CHARS, budget[0]))]
        budget[0] -= len(cut)
        return cut.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        if depth >= _DEEPEST:
            return "..."
        kept = list(value.items())[:_MOST_ENTRIES]
        return {_key(name, budget): _bounded(each, budget, depth + 1) for name, each in kept}
    if isinstance(value, list):
        if depth >= _DEEPEST:
            return "..."
        budget[0] -= 8 * min(len(value), _MOST_ENTRIES)
        return [_bounded(each, budget, depth + 1) for each in value[:_MOST_ENTRIES]] if budget[0] > 0 else []
    return value


def _key(name, budget):
    budget[0] -= 8
    return str(name)[:200].encode("utf-8", "replace").decode()
