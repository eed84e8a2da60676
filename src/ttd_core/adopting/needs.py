"""What a task needs that the sandbox gives nobody, and programs that it starts; from its sources alone."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator, Sequence

from ttd_core.adopting.sources import Source, imports_of
from ttd_core.adopting.task import Need

#: Modules whose only use is to talk to a server.
_CLIENTS = frozenset(
    {
        *("requests", "httpx", "aiohttp", "openai", "anthropic", "litellm", "cohere", "groq", "mistralai"),
        *("boto3", "paramiko", "websockets", "urllib3", "google.generativeai", "google.genai", "together"),
        *("shinka.llm", "openevolve.llm", "skydiscover.llm", "modal"),
    }
)
#: Calls that ask a server, by the last two names of what is called.
_ASKING = frozenset(
    {
        *("request.urlopen", "request.urlretrieve", "urlopen", "urlretrieve", "load_dataset"),
        *("datasets.load_dataset", "hf_hub_download", "huggingface_hub.hf_hub_download", "snapshot_download"),
        *("huggingface_hub.snapshot_download", "socket.create_connection", "client.HTTPSConnection"),
        *("client.HTTPConnection", "HTTPSConnection", "HTTPConnection", "ftplib.FTP", "smtplib.SMTP"),
        *("datasets.fetch_openml", "fetch_openml"),
    }
)
#: Calls that start a program, by the last name.
_STARTING = frozenset(
    {
        *("run", "Popen", "call", "check_call", "check_output", "system", "which"),
        *("create_subprocess_exec", "create_subprocess_shell", "popen", "execvp", "getoutput"),
    }
)
#: What such a call belongs to.
_STARTERS = frozenset({"subprocess", "os", "shutil", "asyncio", "sp"})
_CONTAINERS = frozenset({"docker", "podman", "singularity", "apptainer"})
#: Modules that start containers.
_CONTAINING = frozenset({"docker", "podman", "ale_bench"})
_FETCHERS = frozenset({"curl", "wget", "pip", "conda", "npm"})
#: Programs that are on every machine on which ttd runs.
_PRESENT = frozenset(
    {"python", "python3", "bash", "sh", "env", "echo", "cd", "cat", "cp", "mv", "rm", "mkdir"}
)
_KEY = re.compile(r"\b[A-Z][A-Z0-9_]*(?:API_KEY|ACCESS_KEY|SECRET_KEY|_SECRET|_TOKEN)|HF_TOKEN")
_PROGRAM = re.compile(r"[A-Za-z][\w.+-]*")


def needs_of(sources: Sequence[Source]) -> tuple[Need, ...]:
    """A network, keys and Docker, one of each kind and word, at the place that first says so."""
    found: dict[tuple[str, str], Need] = {}
    for source in sources:
        for kind, word, where in (*_of_python(source), *_of_shell(source)):
            found.setdefault((kind, word), Need(kind, f"{word} ({where})"))
    return tuple(found.values())


def programs_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """Programs that a task starts by name and that are not on this machine's path, with where it says so."""
    found: dict[str, str] = {}
    for source in sources:
        for word, where in _started(source):
            if word not in _PRESENT | _CONTAINERS | _FETCHERS and shutil.which(word) is None:
                found.setdefault(word, where)
    return tuple(f"{word} ({where})" for word, where in found.items())


def gpu_of(sources: Sequence[Source]) -> str:
    """Where a task wants a CUDA device without asking first whether there is one; empty where not."""
    for source in sources:
        if "cuda.is_available" in source.text or "device_count()" in source.text:
            continue
        for node in ast.walk(source.tree) if source.tree else ():
            if isinstance(node, ast.Call):
                given = [*node.args, *(each.value for each in node.keywords)]
                words = [each.value for each in given if isinstance(each, ast.Constant)]
                if any(word == "cuda" or (isinstance(word, str) and word[:5] == "cuda:") for word in words):
                    return source.at(node)
                if _dotted(node.func)[-1:] == ["cuda"] or _dotted(node.func)[-2:] == ["cuda", "synchronize"]:
                    return source.at(node)
    return ""


def _of_python(source: Source) -> Iterator[tuple[str, str, str]]:
    for each in imports_of(source):
        names = {each.module, each.module.split(".")[0], ".".join(each.module.split(".")[:2])}
        names |= {f"{each.module}.{name}" for name in each.names}
        if client := sorted(names & _CLIENTS):
            if not each.optional:
                yield "network", f"it imports {client[0]}, which asks a server", each.where
        elif each.module.split(".")[0] in _CONTAINING and not each.optional:
            yield "docker", f"it imports {each.module}, which starts containers", each.where
    for node in ast.walk(source.tree) if source.tree else ():
        if isinstance(node, ast.Call) and ".".join(_dotted(node.func)[-2:]) in _ASKING:
            yield "network", f"it calls {'.'.join(_dotted(node.func)[-2:])}", source.at(node)
        if key := _key_read(node):
            yield "key", f"it reads {key}", source.at(node)
    for word, where in _started(source):
        if word in _CONTAINERS:
            yield "docker", f"it starts {word}", where
        elif word in _FETCHERS:
            yield "network", f"it starts {word}", where


def _of_shell(source: Source) -> Iterator[tuple[str, str, str]]:
    if source.path.suffix != ".sh":
        return
    for number, line in enumerate(source.text.split("\n"), 1):
        command = line.split("#")[0]
        where = f"{source.name}:{number}"
        for word in re.findall(r"(?:^|[;&|(]|\$\()\s*(?:exec\s+|sudo\s+)?([\w.-]+)", command):
            if word in _CONTAINERS:
                yield "docker", f"it starts {word}", where
            elif word in _FETCHERS:
                yield "network", f"it starts {word}", where
        for key in _KEY.findall(command):
            yield "key", f"it reads {key}", where


def _started(source: Source) -> Iterator[tuple[str, str]]:
    """Names of programs that a source starts, with where."""
    lists = {
        target.id: node.value
        for node in ast.walk(source.tree or ast.Module([], []))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(source.tree) if source.tree else ():
        if not isinstance(node, ast.Call) or not node.args:
            continue
        dotted = _dotted(node.func)
        alone = isinstance(node.func, ast.Name)
        if not dotted or dotted[-1] not in _STARTING:
            continue
        if not alone and (len(dotted) < 2 or dotted[-2] not in _STARTERS):
            continue
        first = node.args[0]
        first = lists.get(first.id, first) if isinstance(first, ast.Name) else first
        if isinstance(first, ast.List | ast.Tuple) and first.elts:
            first = first.elts[0]
        if isinstance(first, ast.JoinedStr) and first.values:
            first = first.values[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            word = (first.value.split() or [""])[0]
            if _PROGRAM.fullmatch(word):
                yield word, source.at(node)


def _key_read(node: ast.AST) -> str:
    """The variable that a node reads where its name is a key's."""
    value: ast.expr | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        value = node.slice if _dotted(node.value)[-1:] == ["environ"] else None
    elif isinstance(node, ast.Call) and node.args:
        dotted = _dotted(node.func)
        value = node.args[0] if dotted[-1:] == ["getenv"] or dotted[-2:] == ["environ", "get"] else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and _KEY.fullmatch(value.value):
        return value.value
    return ""


def _dotted(node: ast.expr) -> list[str]:
    """The names of ``a.b.c``; empty where it begins with something else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else names
