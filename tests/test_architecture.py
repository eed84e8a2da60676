"""The architecture, held from the syntax trees: layers, circles, heavy modules, sizes, what is never used.

Every import counts: those inside functions, and those made for types alone. ``pytest -s -k prints_the_house
tests/test_architecture.py`` prints the layers, the tree and the sizes.
"""

from __future__ import annotations

import ast
import collections
import pathlib
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CORE = ROOT / "src" / "ttd_core"

#: The layers, lowest first. Each name is a module or a folder directly under ``ttd_core``. A module imports
#: from its own folder and from layers below; the folders of one layer know nothing of each other.
LAYERS = [
    ["errors", "scores", "stages", "package_files", "frozen", "host", "metrics", "network", "text"],
    ["types", "input_files", "fetching"],
    ["config"],
    ["search", "sandbox", "policy"],
    ["options", "certificate", "learn"],
    ["dialogue"],
    ["problem"],
    ["adopting"],
    ["certifying", "plugin"],
    ["run"],
    ["planning", "report", "testing"],
    ["experiment", "ui"],
    ["cli"],
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
#: Heavy modules and the only modules that may import them.
HEAVY = {
    "torch": r"policy\..*|cli\.doctor|report\.trackers",
    "transformers": r"policy\..*",
    "peft": r"policy\..*",
    "huggingface_hub": r"policy\..*",
    "gguf": r"policy\..*",
    "ray": r"sandbox\.ray.*",
    "tinker": r"policy\.tinker.*",
    "openai": r"policy\.openai.*",
    "jinja2": r"report\.page|ui\.rendering",
    "pygments": r"report\.code",
    "tensorboard": r"report\.trackers",
    "trackio": r"report\.trackers",
    "wandb": r"report\.trackers",
    "rich": r"cli\..*",
    "starlette": r"ui\..*",
    "uvicorn": r"ui\..*",
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
    """Every import statement, in function bodies and under ``TYPE_CHECKING`` too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def imports_that_run(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements other than those made for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports_that_run(other)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from imports_that_run(node)


def imported(tree: ast.AST, *, types: bool = True) -> set[str]:
    """Full names of everything imported: for ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in imports(tree) if types else imports_that_run(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"relative import at line {node.lineno}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


Graph = dict[str, set[str]]


def import_graph(package: pathlib.Path) -> Graph:
    """For each module of a package, those of the same package that it imports, typed imports included."""
    trees = {
        module_name(path, package): ast.parse(path.read_text())
        for path in sorted(package.rglob("*.py"))
        if not {"programs", "helpers"} & set(path.relative_to(package).parts)
    }
    prefix = f"{package.name}."
    return {
        name: {other.removeprefix(prefix) for other in imported(tree)} & trees.keys() - {name, ""}
        for name, tree in trees.items()
    }


def folded(graph: Graph, depth: int) -> Graph:
    """The same imports between folders: module names cut to their first ``depth`` parts."""
    result: Graph = collections.defaultdict(set)
    for name, others in graph.items():
        here = ".".join(name.split(".")[:depth])
        result[here] |= {".".join(other.split(".")[:depth]) for other in others} - {here}
    return result


def circles(graph: Graph) -> list[str]:
    """Names from which a walk along imports leads back to themselves."""
    return [name for name in graph if any(name in reachable(graph, other) for other in graph[name] - {name})]


def reachable(graph: Graph, name: str) -> set[str]:
    """``name`` and all that it imports, directly or not."""
    seen, waiting = {name}, [name]
    while waiting:
        for other in graph.get(waiting.pop(), set()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


SOURCES = {module_name(path, CORE): path for path in sorted(CORE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
GRAPH = import_graph(CORE)
PLUGINS = {path.name: path for path in sorted((ROOT / "plugins").glob("ttd_*/src/ttd_*")) if path.is_dir()}
ALL_FILES = [*SOURCES.values(), *(file for path in PLUGINS.values() for file in sorted(path.rglob("*.py")))]
#: Without the sources that candidates start from or call: those are data here.
OWN_FILES = [file for file in ALL_FILES if not {"programs", "helpers"} & set(file.parts)]


def _relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def upward_imports() -> list[str]:
    """Imports between core modules that do not lead to a lower layer, nor stay in their folder."""
    wrong = []
    for name, others in GRAPH.items():
        for other in others if name else ():
            here, there = name.split(".")[0], other.split(".")[0]
            if here != there and LAYER_OF[there] >= LAYER_OF[here]:
                wrong.append(f"{name} (layer {LAYER_OF[here]}) imports {other} (layer {LAYER_OF[there]})")
    return wrong


def test_every_folder_is_in_one_layer() -> None:
    assert sorted(LAYER_OF) == sorted({name.split(".")[0] for name in GRAPH} - {""})


def test_modules_import_from_their_own_folder_or_from_lower_layers() -> None:
    assert upward_imports() == []


def all_circles(graph: Graph) -> list[str]:
    """Circles between modules, and between folders of every depth."""
    deepest = max(name.count(".") for name in graph) + 1
    return [name for depth in range(1, deepest + 1) for name in circles(folded(graph, depth))]


def test_there_is_no_circle_between_modules_or_folders() -> None:
    assert all_circles(GRAPH) == []


@pytest.mark.parametrize("plugin", sorted(path.name for path in (ROOT / "plugins").glob("ttd_*")))
def test_no_plugin_has_a_circle(plugin: str) -> None:
    assert all_circles(import_graph(ROOT / "plugins" / plugin / "src" / plugin)) == []


def test_a_circle_would_be_found() -> None:
    graph: Graph = {"a": {"b.x"}, "b.x": set(), "b.y": {"a"}}
    assert circles(graph) == []
    assert sorted(all_circles(graph)) == ["a", "b"]


def test_backends_never_import_each_other() -> None:
    assert {"policy.local.policy", "sandbox.ray"} <= GRAPH.keys()
    wrong = {
        (one, other)
        for one in BACKENDS
        for other in BACKENDS
        for name in GRAPH
        if name == one or name.startswith(f"{one}.")
        if one != other and any(n == other or n.startswith(f"{other}.") for n in reachable(GRAPH, name))
    }
    assert wrong <= BUILDS_ON


def test_the_folders_of_the_tests_mirror_those_of_the_sources() -> None:
    """``integration``, ``docs``, ``outside`` and the suite of attacks test no one folder."""
    apart = {"integration", "docs", "outside", "sandbox/attacks"}
    folders = {str(path.parent.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("*.py")}
    assert [folder for folder in sorted(folders - apart) if not (CORE / folder).is_dir()] == []


def test_prints_the_house() -> None:
    """Not a check of its own: what the other tests hold, for a reader."""
    lengths = {name: len(path.read_text().splitlines()) for name, path in SOURCES.items()}
    print()
    for number in reversed(range(len(LAYERS))):
        print(f"layer {number:2}  {' '.join(LAYERS[number])}")
    print()
    folders: Mapping[str, list[str]] = collections.defaultdict(list)
    for name in sorted(lengths):
        if name:
            path = SOURCES[name]
            if path.name != "__init__.py":
                folders[str(path.parent.relative_to(CORE))].append(f"{path.stem} {lengths[name]}")
    for folder, modules in sorted(folders.items()):
        print(f"{folder + '/':32} {', '.join(modules)}")
    longest = max(lengths, key=lambda name: lengths[name])
    print(f"\n{len(lengths)} modules, median {statistics.median(lengths.values()):g} lines, "
          f"longest {longest} {lengths[longest]}")  # fmt: skip
    print(
        f"upward imports: {len(upward_imports())}, circles: {len(all_circles(GRAPH))} (typed imports counted)"
    )


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
    own = {name for name in imported(TREES[""], types=False) if name.startswith("ttd_core")}
    assert own == set()


def test_heavy_modules_stay_inside_their_adapters() -> None:
    wrong = [
        f"{name} imports {heavy}"
        for name, tree in TREES.items()
        for heavy in {other.split(".")[0] for other in imported(tree, types=False)} & HEAVY.keys()
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
                for node in imports_that_run(function):
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
        ("import ttd_core.plugin.entries", {"numpy", "click", "cattrs", "pluggy"}),
        ("from ttd_core import *", {"rich", "scipy"}),
        (
            "import ttd_core.plugin.registry, ttd_core.plugin.hooks, ttd_core.plugin.builtins",
            {"rich", "scipy"},
        ),
    ],
)
def test_light_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert loaded_by(statement) & (absent | HEAVY.keys() - {"rich"}) == set()
