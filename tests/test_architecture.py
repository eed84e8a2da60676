"""The architecture, held from the syntax trees: layers, lazy heavy modules, sizes, and what is never used.

Imports inside functions count; those under ``TYPE_CHECKING`` do not, for they never run.
"""

from __future__ import annotations

import ast
import pathlib
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CORE = ROOT / "src" / "ttd_core"

#: Layers, low to high; the first pattern that matches a module counts. A module imports from its own layer
#: or lower ones.
LAYERS = [
    (0, r"errors|types"),
    (1, r"settings|schema|config|parsing|merging|prompting|problem|hookspecs|certificate"),
    (1, r"search(\..*)?|learn\.objective|sandbox\.base|policy\.base"),
    (2, r"entries|registry|guard|hooktypes|hooks|builtins|learn(\..*)?|policy(\..*)?|sandbox(\..*)?"),
    (3, r"run(\..*)?"),
    (4, r"report(\..*)?|testing(\..*)?"),
    (5, r"cli(\..*)?"),
]
#: Heavy modules and the only modules that may import them.
HEAVY = {
    "torch": r"policy\..*|learn\.losses|learn\.learner|cli\.doctor|report\.trackers",
    "transformers": r"policy\..*",
    "peft": r"policy\..*",
    "huggingface_hub": r"policy\..*",
    "gguf": r"policy\..*",
    "ray": r"sandbox\.ray.*",
    "tinker": r"policy\.tinker.*",
    "openai": r"policy\.openai.*",
    "jinja2": r"report\.page",
    "pygments": r"report\.code",
    "tensorboard": r"report\.trackers",
    "trackio": r"report\.trackers",
    "wandb": r"report\.trackers",
    "rich": r"cli\..*",
}
#: Each is one backend with its own helpers; none may know another.
BACKENDS = [
    "policy.local",
    "policy.tinker",
    "policy.openai",
    "policy.scripted",
    "sandbox.local",
    "sandbox.ray",
]
#: Ray brings this machine's sandbox to every node; it is that sandbox, elsewhere.
BUILDS_ON = {("sandbox.ray", "sandbox.local")}
#: Modules that turn bytes into behaviour.
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
MAX_LINES, MAX_FUNCTION_LINES, MEDIAN_LINES = 400, 70, 150


def module_name(path: pathlib.Path, root: pathlib.Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement that can run, function bodies included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports(other)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from imports(node)


def imported(tree: ast.AST) -> set[str]:
    """Full names of everything imported: for ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in imports(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"relative import at line {node.lineno}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


SOURCES = {module_name(path, CORE): path for path in sorted(CORE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
#: Core modules that each core module imports.
GRAPH = {
    name: {other.removeprefix("ttd_core.") for other in imported(tree)} & SOURCES.keys() - {name, ""}
    for name, tree in TREES.items()
}
PLUGINS = {path.name: path for path in sorted((ROOT / "plugins").glob("ttd_*/src/ttd_*")) if path.is_dir()}
ALL_FILES = [*SOURCES.values(), *(file for path in PLUGINS.values() for file in sorted(path.rglob("*.py")))]
#: Without the sources that candidates start from or call: those are data here.
OWN_FILES = [file for file in ALL_FILES if not {"programs", "helpers"} & set(file.parts)]


def layer(name: str) -> int:
    for number, pattern in LAYERS:
        if re.fullmatch(pattern, name):
            return number
    raise AssertionError(f"module ttd_core.{name} is in no layer; add it to LAYERS")


def reachable(name: str) -> set[str]:
    seen, waiting = {name}, [name]
    while waiting:
        for other in GRAPH[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    return seen - {name}


def _relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def test_modules_import_from_their_own_layer_or_lower_ones() -> None:
    wrong = [
        f"{name} (layer {layer(name)}) imports {other} (layer {layer(other)})"
        for name, others in GRAPH.items()
        if name
        for other in others
        if layer(other) > layer(name)
    ]
    assert wrong == []


def test_there_is_no_import_cycle() -> None:
    assert [name for name in GRAPH if any(name in reachable(other) for other in GRAPH[name])] == []


def test_backends_never_import_each_other() -> None:
    present = [name for name in BACKENDS if name in GRAPH]
    assert "policy.local" in present
    wrong = {(one, other) for one in present for other in present if other in reachable(one) - {one}}
    assert wrong <= BUILDS_ON


def test_core_never_imports_a_plugin() -> None:
    plugins = {f"ttd_{name}" for name in ("math", "kernels", "ahc", "bio", "golf")} | set(PLUGINS)
    wrong = {
        name: found
        for name, tree in TREES.items()
        if (found := {other.split(".")[0] for other in imported(tree)} & plugins)
    }
    assert wrong == {}


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_plugins_import_ttd_core_only_and_never_each_other(plugin: str) -> None:
    for file in sorted(PLUGINS[plugin].rglob("*.py")):
        roots = {name.split(".")[0] for name in imported(ast.parse(file.read_text()))}
        assert {root for root in roots if root.startswith("ttd_")} <= {"ttd_core", plugin}, _relative(file)


def test_the_package_root_imports_nothing_of_its_own() -> None:
    assert GRAPH[""] == set()


def test_heavy_modules_stay_inside_their_adapters() -> None:
    wrong = [
        f"{name} imports {heavy}"
        for name, tree in TREES.items()
        for heavy in {other.split(".")[0] for other in imported(tree)} & HEAVY.keys()
        if not re.fullmatch(HEAVY[heavy], name)
    ]
    assert wrong == []


def test_imports_inside_functions_are_of_what_loads_on_use() -> None:
    """A function-level import must say why, so that none hides a cycle."""
    silent = []
    for file in OWN_FILES:
        lines = file.read_text().splitlines()
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in imports(function):
                    if not re.search(r"noqa: PLC0415\W+\w+", lines[node.lineno - 1]):
                        silent.append(f"{_relative(file)}:{node.lineno}")
    assert sorted(set(silent)) == []


def test_nothing_unpickles() -> None:
    wrong = [
        f"{_relative(file)}: {', '.join(sorted(found))}"
        for file in ALL_FILES
        if (found := {name.split(".")[0] for name in imported(ast.parse(file.read_text()))} & FORBIDDEN)
    ]
    assert wrong == []


def test_no_module_is_long_and_most_are_short() -> None:
    lengths = {_relative(file): len(file.read_text().splitlines()) for file in OWN_FILES}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    assert statistics.median(lengths.values()) < MEDIAN_LINES


def test_every_function_fits_a_screen() -> None:
    long = [
        f"{_relative(file)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for file in OWN_FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_no_error_is_swallowed() -> None:
    swallowed = []
    for file in OWN_FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler):
                only_pass = all(isinstance(statement, ast.Pass) for statement in node.body)
                if node.type is None or only_pass:
                    swallowed.append(f"{_relative(file)}:{node.lineno}")
    assert swallowed == []


def test_every_module_and_public_function_has_a_docstring() -> None:
    bare = []
    for file in OWN_FILES:
        tree = ast.parse(file.read_text())
        if not ast.get_docstring(tree):
            bare.append(_relative(file))
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{_relative(file)}:{node.lineno} {node.name}")
    assert bare == []


def test_there_is_no_unfinished_note() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [_relative(file) for file in ALL_FILES if marks.search(file.read_text())] == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in ``sys.modules`` after a statement, in a fresh interpreter."""
    program = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import ttd_core", {"numpy", "attrs", "click", "cattrs", "pluggy"}),
        ("import ttd_core.cli", {"numpy", "scipy", "cattrs", "pluggy", "rich"}),
        ("import ttd_core.entries", {"numpy", "click", "cattrs", "pluggy"}),
        ("from ttd_core import *", {"rich", "scipy"}),
        ("import ttd_core.registry, ttd_core.hooks, ttd_core.builtins", {"rich", "scipy"}),
    ],
)
def test_light_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert loaded_by(statement) & (absent | HEAVY.keys() - {"rich"}) == set()
