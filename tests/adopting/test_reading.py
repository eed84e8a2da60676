"""What is read of a folder in each form, and the one line for each that is none."""

from __future__ import annotations

import contextlib
import pathlib
import random
from collections.abc import Callable

import pytest
from tests.adopting.small_tasks import (
    CONFIG,
    EVALUATOR,
    GPU_MODE,
    OPENEVOLVE,
    PROGRAM,
    RUN_EVO,
    SHINKA,
    SHINKA_EVALUATOR,
    STAGES,
    TASK_YML,
    write,
)

from ttd_core.adopting.reading import read_task
from ttd_core.adopting.task import Call, Form
from ttd_core.errors import UsageError


def test_a_task_of_openevolve(tmp_path: pathlib.Path) -> None:
    task = read_task(write(tmp_path / "five_points", OPENEVOLVE))
    assert (task.form, task.name, task.language, task.suffix) == (
        Form.OPENEVOLVE,
        "five-points",
        "python",
        ".py",
    )
    assert (task.program, task.entry, task.description) == (
        PROGRAM,
        "place",
        "Spread five points over the unit interval.",
    )
    assert (task.evaluator.call, task.evaluator.path) == (
        Call.FUNCTION,
        tmp_path / "five_points" / "evaluator.py",
    )
    assert (task.metric, task.direction, task.timeout_s) == ("combined_score", "max", 20.0)
    assert (task.lacks, task.programs, task.gpu, task.needs) == ((), (), "", ())
    assert task.unused == (
        "config.yaml: llm (primary_model, temperature): the model is that of the run (--model)",
        "config.yaml: database (population_size): where programs start from is the run's search",
        "config.yaml: prompt (num_top_programs): what else a prompt shows is ttd's",
        "config.yaml: max_iterations: how long a run goes on is its --steps",
        "config.yaml: diff_based_evolution: how a program is changed is -o reply=edits or -o reply=program",
        "config.yaml: evaluator (parallel_evaluations): limits and retries are the run's sandbox's",
    )


@pytest.mark.parametrize(
    ("settings", "call", "thresholds"),
    [
        ("", Call.STAGES, (0.5, 0.75)),
        ("cascade_thresholds: [1.3, 2]", Call.STAGES, (1.3, 2.0)),
        # Stage 3 has no threshold before it: OpenEvolve never reaches it.
        ("cascade_thresholds: [1]", Call.STAGES, (1.0,)),
        ("cascade_evaluation: false", Call.FUNCTION, ()),
    ],
)
def test_stages_and_what_each_must_reach(
    tmp_path: pathlib.Path, settings: str, call: Call, thresholds: tuple[float, ...]
) -> None:
    files = {"initial_program.py": PROGRAM, "evaluator.py": STAGES}
    files |= {"config.yaml": f"evaluator: {{{settings}}}"}
    task = read_task(write(tmp_path / "staged", files))
    assert (task.evaluator.call, task.evaluator.thresholds) == (call, thresholds)
    # `openevolve` is not installed, and what the evaluator takes of it is supplied.
    assert task.lacks == ()


def test_skydiscover_has_two_stages_and_its_own_defaults(tmp_path: pathlib.Path) -> None:
    files = {"initial_program.py": PROGRAM, "evaluator/evaluator.py": STAGES}
    task = read_task(write(tmp_path / "staged", files))
    assert (task.evaluator.call, task.evaluator.thresholds, task.timeout_s) == (Call.STAGES, (0.3,), 360.0)
    assert "evaluator/evaluator.py: from stage 3 on, which SkyDiscover does not reach either" in task.unused


def test_of_several_evaluators_of_one_task_pythons_is_called_and_the_others_are_named(
    tmp_path: pathlib.Path,
) -> None:
    shell = '#!/bin/sh\npython /benchmark/evaluator.py "$1"\n'
    files = {"initial_program.py": PROGRAM, "evaluator/evaluator.py": EVALUATOR}
    files |= {"evaluator/evaluate.sh": shell, "evaluator/Dockerfile": "FROM python:3.12-slim\n"}
    task = read_task(write(tmp_path / "both", files))
    assert (task.evaluator.call, task.evaluator.path.name) == (Call.FUNCTION, "evaluator.py")
    assert "evaluator/evaluate.sh: evaluator/evaluator.py is the evaluator that is called" in task.unused
    # A Dockerfile alone is no need: the evaluator runs without.
    assert task.needs == ()
    files["evaluator/evaluator.py"] = 'import json\nprint(json.dumps({"combined_score": 1.0}))\n'
    task = read_task(write(tmp_path / "both", files))
    assert (task.evaluator.call, task.evaluator.path.name) == (Call.SHELL, "evaluate.sh")


@pytest.mark.parametrize(
    ("name", "language"),
    [("initial_program.rs", "rust"), ("initial_program.r", "r"), ("initial_program.cpp", "c++")],
)
def test_a_program_in_any_language(tmp_path: pathlib.Path, name: str, language: str) -> None:
    task = read_task(write(tmp_path / "task", {name: "main", "evaluator.py": EVALUATOR}))
    assert (task.language, task.suffix, task.entry) == (language, pathlib.Path(name).suffix, "")


def test_a_config_says_which_of_two_programs_it_starts_from(tmp_path: pathlib.Path) -> None:
    files = {"initial_program.py": PROGRAM, "initial_program.rs": "fn main() {}", "evaluator.py": EVALUATOR}
    task = read_task(write(tmp_path / "task", files | {"config.yaml": 'file_suffix: ".rs"'}))
    assert task.language == "rust"


def test_the_score_of_an_evaluator_without_a_combined_one(tmp_path: pathlib.Path) -> None:
    other = EVALUATOR.replace("combined_score", "overall_score")
    task = read_task(write(tmp_path / "task", OPENEVOLVE | {"evaluator.py": other}))
    assert task.metric == "overall_score"
    assert task.unused[0] == (
        "evaluator.py: it gives no combined_score, and OpenEvolve takes the mean of its metrics then: "
        "the score is its overall_score (--metric names another)"
    )


def test_the_task_in_words_comes_from_a_file_that_the_config_names_or_from_the_readme(
    tmp_path: pathlib.Path,
) -> None:
    named = {"config.yaml": "prompt: {system_message: words.txt}", "words.txt": "Spread points.\n"}
    assert read_task(write(tmp_path / "a", OPENEVOLVE | named)).description == "Spread points."
    outside = {"config.yaml": "prompt: {system_message: ../secret.txt}"}
    write(tmp_path, {"secret.txt": "not the task's"})
    assert read_task(write(tmp_path / "b", OPENEVOLVE | outside)).description == "../secret.txt"
    readme = {"config.yaml": "", "README.md": "# Five points\n\nSpread them.\n"}
    task = read_task(write(tmp_path / "c", OPENEVOLVE | readme))
    assert (task.title, task.description) == ("Five points", "# Five points\n\nSpread them.")
    assert task.unused[0] == "config.yaml: it has no prompt.system_message; the prompt has README.md's text"


def test_several_configs_and_those_that_are_not_read(tmp_path: pathlib.Path) -> None:
    files = {"config_phase_1.yaml": CONFIG, "config_phase_2.yaml": "evaluator: {timeout: 99}"}
    files |= {"initial_program.py": PROGRAM, "evaluator.py": EVALUATOR}
    task = read_task(write(tmp_path / "task", files))
    assert task.timeout_s == 20.0
    assert task.unused[0] == "config_phase_2.yaml: config_phase_1.yaml is the config that is read"


def test_a_model_that_would_judge_beside_the_evaluator_is_said(tmp_path: pathlib.Path) -> None:
    config = "evaluator: {use_llm_feedback: true, llm_feedback_weight: 0.3}\nalgotune: {trials: 5}\n"
    task = read_task(write(tmp_path / "task", OPENEVOLVE | {"config.yaml": config}))
    assert (
        "config.yaml: evaluator.llm_feedback_weight, use_llm_feedback: no model adds to a score"
        in task.unused
    )
    assert "config.yaml: algotune: not known" in task.unused


def test_a_task_of_shinkaevolve(tmp_path: pathlib.Path) -> None:
    task = read_task(write(tmp_path / "mean", SHINKA))
    assert (task.form, task.language, task.entry) == (Form.SHINKA, "python", "run_once")
    assert (task.evaluator.call, task.evaluator.path.name) == (Call.SCRIPT, "evaluate.py")
    assert (task.description, task.timeout_s) == ("Make the mean large. Any float\nis allowed.", 150.0)
    assert (task.metric, task.direction, task.lacks) == ("combined_score", "max", ())
    assert "run_evo.py: of its job config conda_env: evaluations run in ttd's sandbox" in task.unused


def test_the_words_of_a_shinka_task_from_its_yaml_or_set_as_a_key(tmp_path: pathlib.Path) -> None:
    without = {name: text for name, text in SHINKA.items() if name != "run_evo.py"}
    yaml = "evo_config: {task_sys_msg: From YAML.}\njob_config: {time: 90}\ndb_config: {num_islands: 2}\n"
    task = read_task(write(tmp_path / "a", without | {"shinka.yaml": yaml}))
    assert (task.description, task.timeout_s) == ("From YAML.", 90.0)
    key = 'config = load()\nconfig["evo_config"]["task_sys_msg"] = "As a key."\n'
    task = read_task(write(tmp_path / "b", without | {"run_evo.py": key}))
    assert (task.description, task.timeout_s) == ("As a key.", 300.0)
    assert "no time for an evaluation is set: 300 s are given" in task.unused


def test_a_task_of_gpu_mode(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, GPU_MODE) / "vectoradd"
    task = read_task(folder)
    assert (task.form, task.name, task.language, task.suffix) == (Form.GPU_MODE, "vectoradd", "python", ".py")
    assert (task.program, task.entry) == (GPU_MODE["template.py"], "custom_kernel")
    assert (task.metric, task.direction, task.timeout_s) == ("geom", "min", 150.0)
    assert (task.evaluator.call, task.evaluator.path) == (Call.POPCORN, tmp_path / "eval.py")
    assert task.evaluator.tests == ("size: 16; masked: True", "size: 32; kind: cauchy")
    assert task.evaluator.benchmarks == ("size: 1024; masked: False",)
    assert dict(task.evaluator.files) == {
        "reference.py": folder / "reference.py",
        "eval.py": tmp_path / "eval.py",
    }
    assert task.gpu == "reference.py:5"
    own = write(folder, {"submission.py": "def custom_kernel(data):\n    return data\n"})
    assert read_task(own).program == "def custom_kernel(data):\n    return data\n"
    assert (
        "task.yml: templates (../template.py): submission.py is the starting program" in read_task(own).unused
    )


def test_nothing_of_a_folder_is_executed(tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "executed"
    trap = f"open({str(mark)!r}, 'w')\n"
    traps = {name: trap + text for name, text in (OPENEVOLVE | SHINKA).items() if name.endswith(".py")}
    traps |= {"helper.py": trap, "requirements.txt": "numpy\n", "conftest.py": trap, "sitecustomize.py": trap}
    openevolve = {name: traps.get(name, text) for name, text in OPENEVOLVE.items()}
    openevolve["evaluator.py"] = "import helper\n" + openevolve["evaluator.py"]
    openevolve |= {name: traps[name] for name in ("helper.py", "conftest.py", "sitecustomize.py")}
    assert read_task(write(tmp_path / "a", openevolve)).form is Form.OPENEVOLVE
    assert read_task(write(tmp_path / "b", {name: traps[name] for name in SHINKA})).form is Form.SHINKA
    assert not mark.exists()


TWO = "two evaluators: evaluator.py (of OpenEvolve or SkyDiscover) and evaluate.py (of ShinkaEvolve)"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, ": empty; a task's folder has initial_program.* with evaluator.py"),
        ({"notes.txt": "x"}, ": no task: initial_program.* with evaluator.py"),
        ({"initial_program.py": PROGRAM}, ": no evaluator: evaluator.py, or evaluator/ with evaluate.sh"),
        ({"initial.py": PROGRAM}, ": no evaluator: evaluate.py is wanted beside initial.py"),
        ({"evaluator.py": EVALUATOR}, ": no starting program: a file initial_program.*"),
        ({"evaluate.py": SHINKA_EVALUATOR}, ": no starting program: a file initial.* is wanted"),
        (OPENEVOLVE | SHINKA, TWO),
        ({"evaluator.py": EVALUATOR, "evaluate.py": SHINKA_EVALUATOR}, TWO),
        (
            OPENEVOLVE | {"initial_program.rs": "fn main() {}"},
            ": several starting programs: initial_program.py, initial_program.rs; keep one of them",
        ),
        (OPENEVOLVE | {"initial_program.py": " \n"}, "initial_program.py: the starting program is empty"),
        (OPENEVOLVE | {"evaluator.py": "def evaluate(:"}, "evaluator.py: not Python that can be read: "),
        (OPENEVOLVE | {"evaluator.py": "(" * 5000}, "evaluator.py: not Python that can be read: "),
        (OPENEVOLVE | {"evaluator.py": "score = 1"}, "evaluator.py: it defines no function evaluate(path)"),
        (OPENEVOLVE | {"config.yaml": "evaluator: [1"}, "config.yaml: not YAML: "),
        (OPENEVOLVE | {"config.yaml": "- 1"}, "config.yaml: it must hold keys with values"),
        (
            OPENEVOLVE | {"config.yaml": "!!python/object:os.system x"},
            "config.yaml: not YAML: could not determine",
        ),
        (OPENEVOLVE | {"config.yaml": "[" * 5000}, "config.yaml: not YAML"),
        (
            OPENEVOLVE | {"config.yaml": "a: &a x\nb: [" + "*a, " * 50 + "]"},
            "config.yaml: 50 references (*name)",
        ),
        (OPENEVOLVE | {"config.yaml": "llm: " + "x" * 300_000}, "config.yaml: larger than the 262144 bytes"),
        (
            OPENEVOLVE | {"config.yaml": "evaluator: 3"},
            "config.yaml: 'evaluator' must have keys below it, and is '3'",
        ),
        (
            OPENEVOLVE | {"config.yaml": "evaluator: {timeout: soon}"},
            "config.yaml: evaluator.timeout is 'soon'; a number of seconds above 0 is wanted",
        ),
        (
            OPENEVOLVE | {"config.yaml": "evaluator: {timeout: .nan}"},
            "evaluator.timeout is 'nan'; a number of",
        ),
        (
            {
                "initial_program.py": PROGRAM,
                "evaluator.py": STAGES,
                "config.yaml": "evaluator: {cascade_thresholds: 1}",
            },
            "config.yaml: evaluator.cascade_thresholds must be a list of numbers",
        ),
        (
            OPENEVOLVE | {"config.yaml": "prompt: {system_message: [1]}"},
            "prompt.system_message is a list; text is",
        ),
        (
            SHINKA | {"evaluate.py": EVALUATOR},
            "evaluate.py: it takes no --results_dir; ShinkaEvolve calls it with",
        ),
        (
            SHINKA | {"run_evo.py": RUN_EVO.replace("00:02:30", "soon")},
            "run_evo.py: time is 'soon'; hours, minutes and seconds are wanted: 00:05:00",
        ),
    ],
)
def test_a_wrong_folder_is_refused_in_one_line(
    tmp_path: pathlib.Path, files: dict[str, str], message: str
) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    with pytest.raises(UsageError) as refused:
        read_task(write(folder, files))
    said = str(refused.value)
    assert message in said
    assert said.startswith(str(folder))
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("files:", "files: 3\nothers:", "'files' must list up to 100 files"),
        ("@SUBMISSION@", "reference.py", "one of 'files' must have the source @SUBMISSION@: 0 do"),
        ("../eval.py", "../missing.py", "there is no file ../missing.py"),
        ("../eval.py", "/etc/hostname", "/etc/hostname lies outside the task and what it shares"),
        ('"name": "reference.py"', '"name": "../reference.py"', "'../reference.py' is no plain file name"),
        ('main: "eval.py"', 'main: "other.py"', "config.main is 'other.py', which is not among its files"),
        (
            "../template.py",
            "../template.cu",
            "no starting program: neither submission.py nor a template *.py",
        ),
        ('"kind": "cauchy"', '"kind": {}', "a case of 'tests' has a value that is no number, text or list"),
        (
            '"kind": "cauchy"',
            '"kind": "a; b: c"',
            "a case of 'tests' has too long a value, or ';' or a line end",
        ),
        ("benchmarks:", "others:", "'benchmarks' must list up to 1000 cases"),
        ("geom", "fastest", "ranking_by is 'fastest'; one of last, mean, geom"),
        ("test_timeout: 60", "test_timeout: 0", "test_timeout is '0'; a number of seconds above 0 is wanted"),
    ],
)
def test_a_wrong_task_of_gpu_mode_is_refused_in_one_line(
    tmp_path: pathlib.Path, old: str, new: str, message: str
) -> None:
    assert old in TASK_YML
    files = GPU_MODE | {"vectoradd/task.yml": TASK_YML.replace(old, new)}
    with pytest.raises(UsageError) as refused:
        read_task(write(tmp_path / "deep" / "deeper", files) / "vectoradd")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (f"timeout: {'9' * 400}", "timeout is a huge number, more than the seconds of a year"),
        (f"timeout: -0x{'f' * 5000}", "timeout is a huge number; a number of seconds above 0 is wanted"),
        ("timeout: 1.0e+300", "timeout is '1e+300', more than the seconds of a year"),
        ("timeout: .nan", "timeout is 'nan'; a number of seconds above 0 is wanted"),
        ("cascade_thresholds: [.inf]", "must be a list of numbers, none of them infinite"),
        ("cascade_thresholds: [.nan]", "must be a list of numbers, none of them infinite"),
        (f"cascade_thresholds: [{'9' * 400}]", "must be a list of numbers, none of them infinite"),
    ],
)
def test_numbers_that_no_clock_or_job_takes_are_refused(
    tmp_path: pathlib.Path, settings: str, words: str
) -> None:
    files = {**OPENEVOLVE, "evaluator.py": STAGES, "config.yaml": f"evaluator:\n  {settings}\n"}
    with pytest.raises(UsageError) as refused:
        read_task(write(tmp_path / "task", files))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["initial_program.py", "evaluator.py", "config.yaml"])
def test_a_link_that_leads_out_of_a_task_is_not_read(tmp_path: pathlib.Path, name: str) -> None:
    folder = write(tmp_path / "task", OPENEVOLVE)
    (folder / name).rename(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match=f"{name}: a link that leads out of the task's folder, to .*secret;"):
        read_task(folder)


def test_a_readme_that_is_a_link_out_of_the_task_is_in_no_prompt(tmp_path: pathlib.Path) -> None:
    files = {name: text for name, text in OPENEVOLVE.items() if name != "config.yaml"}
    folder = write(tmp_path / "task", files)
    (tmp_path / "secret").write_text("# a secret\n")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    task = read_task(folder)
    assert "secret" not in task.title + task.description


def test_a_link_to_a_task_is_the_task_under_the_name_of_the_link(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path / "task", OPENEVOLVE)
    (tmp_path / "other").symlink_to(folder)
    task = read_task(tmp_path / "other")
    assert (task.name, task.folder, task.evaluator.path) == ("other", folder, folder / "evaluator.py")
    assert read_task(tmp_path / "other" / ".." / "task").folder == folder


def test_the_tasks_in_a_folder_that_is_none_are_named(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "many" / "five", OPENEVOLVE)
    write(tmp_path / "many" / "mean", SHINKA)
    with pytest.raises(
        UsageError, match=r"/many: no task: .* is wanted; in it, five, mean may be what you mean$"
    ):
        read_task(tmp_path / "many")


def test_a_file_or_nothing_in_place_of_a_folder(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path / "task", OPENEVOLVE)
    with pytest.raises(UsageError, match=r"evaluator.py: a file; name the task's folder, .*/task$"):
        read_task(folder / "evaluator.py")
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        read_task(tmp_path / "nowhere")


def test_a_config_that_stands_for_more_than_any_memory_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    levels = [
        "a0: &a0 {k: v}",
        *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)),
    ]
    with pytest.raises(UsageError, match="81 references"):
        read_task(write(tmp_path / "task", OPENEVOLVE | {"config.yaml": "\n".join(levels)}))


@pytest.mark.parametrize(
    "files",
    [
        {"evaluator.py": EVALUATOR + "# " + "prog" * 45_000},
        {"evaluator.py": EVALUATOR + "x = '" + "A_" * 90_000 + "'\n"},
        {"evaluator.py": EVALUATOR + "[" + "'a.py', " * 5_000 + "]\n"},
        {"evaluator.py": EVALUATOR + "import " + "a." * 10_000 + "b\n"},
        {"initial_program.py": "\n".join(f"def f{n}(): pass" for n in range(4000))},
        {"README.md": "# \n" * 300_000, "config.yaml": ""},
        {"config.yaml": "a: " + ":1" * 100_000},
        {"evaluate.sh": "A" * 190_000 + "\n" + ";" * 190_000, "evaluator.py": "x = 1\n"},
    ],
)
def test_reading_takes_time_in_proportion_to_what_is_read(
    tmp_path: pathlib.Path, files: dict[str, str], cpu_clock: Callable[[], float]
) -> None:
    folder = write(tmp_path / "task", OPENEVOLVE | files)
    start = cpu_clock()
    with contextlib.suppress(UsageError):
        read_task(folder)
    assert cpu_clock() - start < 5.0


def test_whatever_a_folder_holds_is_a_task_or_one_line(tmp_path: pathlib.Path) -> None:
    pieces = ["\n", "  ", "[", "}", '"', ": ", "&a ", "*a", "<<: ", "!!set", "1e999", "~", "|", "\x00", "é"]
    pieces += ["import x\n", "from . import y\n", "def f(", "lambda: ", "2001-99-99", "1:1:1", "- "]
    rng = random.Random(0)
    for number in range(60):
        files = dict(rng.choice([OPENEVOLVE, SHINKA, GPU_MODE]))
        name = rng.choice(list(files))
        text = files[name]
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(pieces) + text[at + rng.choice([0, 0, 5, 20]) :]
        folder = write(tmp_path / str(number), files | {name: text})
        said = ""
        try:
            read_task(folder / "vectoradd" if "vectoradd/task.yml" in files else folder)
        except UsageError as error:
            said = str(error)
        assert "\n" not in said
