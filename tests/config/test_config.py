"""The run's config: layers, errors that name the key, and what may change on resume."""

from __future__ import annotations

import pathlib
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core import config as configs
from ttd_core.config import RESUMABLE_KEYS, RESUMABLE_OPTIONS, VARIANTS, RunConfig
from ttd_core.errors import ConfigError
from ttd_core.options import Options

options = st.dictionaries(
    st.text(st.characters(codec="ascii", min_codepoint=97, max_codepoint=122), min_size=1, max_size=5),
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
    max_size=3,
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.integers(0, 1000),
        "seed": st.integers(0, 2**31),
        "variant": st.sampled_from(sorted(VARIANTS)),
        "options": options,
        "search.capacity": st.integers(1, 10**6),
        "learn.beta": st.floats(0, 1e6),
        "learn.train": st.booleans(),
        "policy.prefill": st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
        "policy.max_new_tokens": st.none() | st.integers(1, 10**5),
        "sandbox.workers": st.none() | st.integers(1, 64),
        "sandbox.reserve": st.none() | st.integers(0, 64),
    },
)


def test_defaults_are_the_papers() -> None:
    config = configs.load("erdos")
    assert (config.steps, config.groups, config.group_size, config.variant) == (50, 8, 64, "full")
    assert (config.learn.learning_rate, config.learn.kl_coefficient, config.policy.lora_rank) == (
        4e-5,
        0.1,
        32,
    )
    assert (config.learn.beta1, config.learn.beta2, config.policy.context) == (0.9, 0.95, 32768)
    assert (config.search.exploration, config.search.capacity, config.search.keep_children) == (1.0, 1000, 2)


def test_later_layers_win(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('variant = "naive-rl"\nsteps = 7\n[learn]\nadvantage = "entropic"\nbeta = 3\n')
    config = configs.load("erdos", file=file, sets=["steps=9", "policy.batch=2"])
    assert config.variant == "naive-rl"
    assert config.search.reuse == "none"  # the variant's
    assert config.learn.advantage == "entropic"  # the file's, over the variant's
    assert config.learn.beta == 3.0
    assert (config.steps, config.policy.batch) == (9, 2)  # --set's, over the file's


def test_a_variant_on_the_command_line_replaces_the_files_whole(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "stored.toml"
    file.write_text(configs.to_toml(configs.load("erdos", variant="best-of-n")))
    config = configs.load("erdos", file=file, variant="constant-beta")
    assert config == configs.load("erdos", variant="constant-beta")


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_each_variant_changes_what_it_says(name: str) -> None:
    flat = configs.flatten(configs.load("erdos", variant=name))
    standard = configs.flatten(configs.load("erdos")) | {"variant": name}
    assert flat == standard | VARIANTS[name]


def test_there_are_the_eight_variants_of_the_papers_ablation() -> None:
    assert list(VARIANTS) == [
        "full",
        "epsilon-greedy",
        "constant-beta",
        "expected-reward",
        "no-training",
        "no-reuse",
        "naive-rl",
        "best-of-n",
    ]


def test_options_merge_across_layers(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[options]\na = 1\nb = 2\n[policy.options]\nurl = 'x'\n")
    config = configs.load(
        "erdos",
        file=file,
        sets=["options.b=3", "policy.options.deep.key=true"],
        overrides={"options": {"c": 4}},
    )
    assert config.options == {"a": 1, "b": 3, "c": 4}
    assert config.policy.options == {"url": "x", "deep": {"key": True}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz=1", "--set stepz=1: unknown key 'stepz'. Did you mean 'steps'?"),
        (
            "exploration=1",
            "--set exploration=1: unknown key 'exploration'. Did you mean 'search.exploration'?",
        ),
        ("capacity=1", "--set capacity=1: unknown key 'capacity'. Did you mean 'search.capacity'?"),
        ("zzzzzz=1", "--set zzzzzz=1: unknown key 'zzzzzz'. `ttd run --list-settings` shows every key."),
        ("search=1", "--set search=1: search is a section; set one of its keys, such as search.reuse"),
        ("steps=many", "--set steps=many: steps needs a whole number, not 'many'"),
        ("steps=-1", "steps must be at least 0, not -1"),
        ("learn.beta1=1.0", "learn.beta1 must be in [0, 1), not 1.0"),
        (
            "search.reuse=pict",
            "--set search.reuse=pict: search.reuse needs one of 'puct', 'epsilon-greedy', 'none', not 'pict'",
        ),
        ("learn.beta=nan", "--set learn.beta=nan: learn.beta needs a number, not nan"),
        ("options=3", "--set options=3: options needs a table, not 3"),
        ("steps", "--set steps: write --set KEY=VALUE"),
        (
            "policy.thinking_tokens=32768",
            "policy.thinking_tokens must be below context (32768), not 32768: the answer needs room",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load("erdos", sets=[text])
    assert str(caught.value) == message


def test_an_option_that_toml_can_write_but_no_option_can_be() -> None:
    with pytest.raises(ConfigError, match=r"options\.when holds what no option can be"):
        configs.load("erdos", sets=["options.when=[1979-05-27]"])


def test_unknown_variant() -> None:
    with pytest.raises(ConfigError, match=r"unknown variant 'naiv-rl'\. Did you mean 'naive-rl'\?"):
        configs.load("erdos", variant="naiv-rl")


def test_a_flag_and_set_that_contradict() -> None:
    assert configs.load("erdos", sets=["steps=2"], overrides={"steps": 2}).steps == 2
    with pytest.raises(ConfigError, match="steps is given twice: 2 by --set and 3 by its own flag"):
        configs.load("erdos", sets=["steps=2"], overrides={"steps": 3})


def test_text_settings_keep_their_text() -> None:
    assert configs.load("erdos", sets=["policy.model=123"]).policy.model == "123"
    assert configs.load("erdos", sets=['policy.prefill="a b"']).policy.prefill == "a b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"steps = ", "not valid TOML"),
        (b"\xff", "not a text file"),
        (b"[lern]\nbeta = 1\n", "unknown key 'lern'. Did you mean 'learn'"),
        (b"[learn]\nbta = 1\n", "unknown key 'learn.bta'. Did you mean 'learn.beta'"),
        (b"steps = '3'\n", "steps needs a whole number, not '3'"),
        (b"steps = 1979-05-27\n", "steps needs a whole number"),
        (b"problem = 'cp26'\n", "it is for problem 'cp26', but 'erdos' was asked for"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        configs.load("erdos", file=file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        configs.load("erdos", file=tmp_path / "none.toml")


def test_the_file_may_name_the_problem(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('problem = "cp26"\n')
    assert configs.load("", file=file).problem == "cp26"
    with pytest.raises(ConfigError, match="no problem named"):
        configs.load("")


@given(changes)
def test_toml_round_trip(change: dict[str, Any]) -> None:
    config = configs.override(configs.load("erdos"), change)
    again = configs.from_toml(configs.to_toml(config))
    assert again == config
    assert configs.digest(again) == configs.digest(config)


@given(changes, changes)
def test_digests_are_equal_exactly_when_nothing_differs(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    base = configs.load("erdos")
    a, b = configs.override(base, first), configs.override(base, second)
    assert (configs.digest(a) == configs.digest(b)) == (configs.diff(a, b) == [])


def test_diff_gives_both_values_by_key() -> None:
    base = configs.load("erdos", sets=["options.n=5"])
    other = configs.override(base, {"learn.beta": 3.0, "options.n": 6, "options.m": "x"})
    assert [attrs.astuple(each) for each in configs.diff(base, other)] == [
        ("learn.beta", 2.0, 3.0),
        ("options.m", None, "x"),
        ("options.n", 5, 6),
    ]
    assert str(configs.diff(base, other)[0]) == "learn.beta: 2.0 -> 3.0"


def test_what_may_change_on_resume_does_not_count() -> None:
    base = configs.load("erdos")
    changes = {"steps": 99, "checkpoints_kept": 5, "sandbox.workers": 3, "sandbox.reserve": 2}
    other = configs.override(base, changes)
    assert other != base
    assert configs.diff(base, other) == []
    assert configs.digest(base) == configs.digest(other)
    assert set(RESUMABLE_KEYS) <= set(configs.flatten(base))
    assert {f"options.{field.name}" for field in attrs.fields(Options)} >= RESUMABLE_OPTIONS
    longer = configs.override(base, {"options.budget_s": 9.0})
    assert configs.digest(longer) != configs.digest(base)


def test_override_with_a_variant_changes_what_it_names() -> None:
    base = configs.load("erdos", variant="naive-rl")
    assert [each.key for each in configs.diff(base, configs.override(base, {"variant": "no-reuse"}))] == [
        "learn.advantage",
        "variant",
    ]


def test_a_stored_file_that_is_torn_is_named() -> None:
    with pytest.raises(ConfigError, match=r"runs/x/config\.toml: not valid TOML"):
        configs.from_toml("steps = ", where="runs/x/config.toml")
    with pytest.raises(
        ConfigError, match=r"^runs/x/config\.toml: learn\.micro_batch_tokens must be at least 1, "
    ):
        configs.from_toml("learn.micro_batch_tokens = 0", where="runs/x/config.toml")
    with pytest.raises(ConfigError, match=r"^runs/x/config\.toml: steps must be at least 0, not -1$"):
        configs.from_toml("steps = -1", where="runs/x/config.toml")


def test_every_setting_has_help_and_its_default_fits() -> None:
    rows = list(configs.describe_settings())
    assert {key for key, *_ in rows} >= set(configs.flatten(RunConfig()))
    assert all(help.strip() for *_, help in rows)
    for key, _, default, _ in rows:
        configs.override(RunConfig(problem="erdos"), {key: default})


@pytest.mark.parametrize(
    ("sets", "begins"),
    [
        ([], None),
        (["cascade=[0.1, 1.0]", "keep=0.5"], None),
        (["deadline.share=0.9", "deadline.then=timeout"], None),
        (["deadline.share=1", "deadline.seconds=5"], None),
        (["keep=0.5"], "keep = 0.5 changes nothing without cascade; set cascade, "),
        (
            ["cascade=[1.0]"],
            "cascade = [1.0] runs every program once with all of its ",
        ),
        (
            ["deadline.then=timeout"],
            "deadline.then = 'timeout' changes nothing where there is no ",
        ),
        (
            ["deadline.share=1"],
            "deadline.share = 1 waits for every verdict, ",
        ),
    ],
)
def test_settings_that_change_nothing_are_told(sets: list[str], begins: str | None) -> None:
    told = list(configs.without_effect(configs.load("sum", sets=sets)))
    assert [each.startswith(begins or "-") for each in told] == ([True] if begins else [])


@pytest.mark.parametrize(
    ("key", "most"),
    [("deadline.seconds", "1,000,000,000, not 1e+300"), ("sandbox.workers", "100,000, not 1000000")],
)
def test_times_and_workers_have_a_bound(key: str, most: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} must be at most {most.replace('+', '.')}"):
        configs.load("sum", sets=[f"{key}={most.split()[-1]}"])
