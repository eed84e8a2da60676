"""What every policy keeps, on every backend: the same tests on each, remote ones against real servers.

``tinker`` runs on a double of the client's classes; ``skyrl`` is the same backend on a real server of the
protocol, ``served`` the ``openai`` backend on a real server with a real model. SkyRL speaks to an older
client, so its turn is a process of its own, begun by the last test.
"""

from __future__ import annotations

import os
import pathlib
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.errors import UsageError
from ttd_core.policy.base import Policy, Sample, SamplingParams, Sequences, Trainer
from ttd_core.policy.openai.policy import open_openai
from ttd_core.policy.scripted import open_scripted
from ttd_core.types import Message, StopReason

PROMPTS: list[list[Message]] = [
    [{"role": "user", "content": text}] for text in ("short", "a rather longer prompt")
]
PARAMS = SamplingParams(max_new_tokens=12, seed=7)
#: Learning settings that move a tiny model.
LEARN = {"policy.lora_rank": 4, "learn.learning_rate": 1e-2}

remote = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]
FROZEN = ["scripted", "openai", pytest.param("served", marks=remote)]
TRAINERS = ["local", "tinker", *(["skyrl"] if "TTD_TEST_TINKER" in os.environ else [])]


@attrs.frozen
class Backend:
    """One backend under test.

    :param open: a new policy, with config keys and, for those with a chat template of their own, a template.
    """

    open: Callable[..., Any]


def config(backend: str, model: str, options: dict[str, Any], **changes: Any) -> configs.RunConfig:
    keys = {"policy.backend": backend, "policy.model": model, "policy.options": options, **LEARN, **changes}
    return configs.load("none", overrides=keys)


def make_scripted(_: pytest.FixtureRequest) -> Backend:
    return Backend(lambda: open_scripted(config("scripted", "", {"replies": ["one", "two", "three"]})))


def make_openai(request: pytest.FixtureRequest) -> Backend:
    chat = request.getfixturevalue("chat")
    return Backend(
        lambda: open_openai(config("openai", "small", {"base_url": chat.url}, **{"learn.train": False}))
    )


def make_served(request: pytest.FixtureRequest) -> Backend:
    url, model = request.getfixturevalue("served_model")
    # The server seeds one generator for all that it writes at once.
    options = {"base_url": url, "in_flight": 1}
    return Backend(lambda: open_openai(config("openai", model, options, **{"learn.train": False})))


def make_local(request: pytest.FixtureRequest) -> Backend:
    make_policy = request.getfixturevalue("make_policy")

    def open_policy(template: str | None = None, **changes: Any) -> Any:
        keys = {key.replace(".", "__"): value for key, value in (LEARN | changes).items()}
        return make_policy(**({} if template is None else {"template": template}), **keys)

    return Backend(open_policy)


def make_tinker(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.getfixturevalue("open_double"))


def make_skyrl(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.getfixturevalue("open_skyrl"))


@pytest.fixture
def chat() -> Iterator[Any]:
    """A server of chat completions that keeps its limits."""
    double = runpy.run_path(str(pathlib.Path(__file__).with_name("chat_server.py")))

    def answer(body: dict[str, Any]) -> Any:
        asked = len(body["messages"][0]["content"])
        if asked > 400:
            return double["refusal"](400, f"the maximum context length is 512 tokens, the prompt has {asked}")
        return double["completion"](f"reply {body['seed']}"[: body["max_tokens"]], "length")

    with double["serving"]() as server:
        server.answer = answer
        yield server


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = globals()[f"make_{request.param}"](request)
    return made


@pytest.fixture
def policy(backend: Backend) -> Iterator[Any]:
    opened = backend.open()
    yield opened
    opened.close()


every_backend = pytest.mark.parametrize("backend", [*FROZEN, *TRAINERS], indirect=True)
every_model = pytest.mark.parametrize("backend", [*FROZEN[1:], *TRAINERS], indirect=True)
every_trainer = pytest.mark.parametrize("backend", TRAINERS, indirect=True)


def sample(policy: Policy, count: int = 4, params: SamplingParams = PARAMS) -> list[Sample]:
    return sorted(policy.sample(PROMPTS, count, params), key=lambda one: (one.prompt, one.index))


def batch_of(samples: Sequence[Sample], sign: Callable[[Sample], Any]) -> list[Sequences]:
    """A batch with the advantages that ``sign`` gives each token of a reply."""
    groups = [[one for one in samples if one.prompt == prompt] for prompt in range(len(PROMPTS))]
    return [
        Sequences(
            group[0].prompt_tokens,
            [one.completion for one in group],
            [np.zeros(len(one.completion.tokens)) + sign(one) for one in group],
        )
        for group in groups
    ]


def said(samples: Sequence[Sample]) -> list[str]:
    return [one.completion.text for one in samples]


def alternating(one: Sample) -> float:
    return (-1.0) ** one.index


@every_backend
def test_every_reply_comes_once_and_whole(policy: Policy) -> None:
    samples = sample(policy)
    assert [(s.prompt, s.index) for s in samples] == [(p, i) for p in range(2) for i in range(4)]
    for one in samples:
        reply = one.completion
        assert len(reply.tokens) == len(reply.logprobs) == len(reply.trained)
        assert reply.answer in reply.text
        assert reply.trained.all()
        assert np.isfinite(reply.logprobs).all()
        assert (reply.logprobs <= 0).all()


@every_backend
def test_its_name_is_for_people(policy: Policy) -> None:
    assert policy.name.strip()
    assert "\n" not in policy.name


@every_backend
def test_the_same_seed_repeats_and_another_does_not(policy: Policy) -> None:
    first = said(sample(policy))
    assert first == said(sample(policy))
    others = [said(sample(policy, params=attrs.evolve(PARAMS, seed=seed))) for seed in range(3)]
    assert any(other != first for other in others)


@every_model
def test_a_limit_ends_replies(policy: Policy) -> None:
    samples = sample(policy, params=attrs.evolve(PARAMS, max_new_tokens=5))
    assert any(one.completion.stop is StopReason.LENGTH for one in samples)
    for one in samples:
        assert len(one.completion.tokens) <= 5
        assert one.completion.stop is StopReason.STOP or len(one.completion.tokens) in (0, 5)


@every_backend
def test_an_abandoned_step_leaves_it_usable(policy: Policy) -> None:
    stream = policy.sample(PROMPTS, 4, PARAMS)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert len(sample(policy)) == 8


@pytest.mark.parametrize("backend", ["openai", *TRAINERS], indirect=True)
def test_a_prompt_that_does_not_fit_names_both_lengths(policy: Policy) -> None:
    params = SamplingParams(context=512, max_new_tokens=4)
    with pytest.raises(UsageError, match=r"(6\d\d.*512|512.*6\d\d)"):
        list(policy.sample([[{"role": "user", "content": "x" * 600}]], 1, params))


@every_trainer
def test_what_is_sampled_is_what_is_trained(backend: Backend, policy: Any) -> None:
    assert isinstance(policy, Trainer)
    samples = sample(policy)
    for prompt in range(2):
        group = [one for one in samples if one.prompt == prompt]
        base = policy.base_logprobs(group[0].prompt_tokens, [one.completion for one in group], 1.0)
        assert [len(part) for part in base] == [len(one.completion.tokens) for one in group]
        assert all(np.isfinite(part).all() and (part <= 0).all() for part in base)
    metrics = policy.train_step(batch_of(samples, alternating), 1.0)
    assert metrics["logprob_gap_max"] < 1e-4
    assert metrics["grad_norm"] > 0


@every_trainer
def test_a_step_raises_what_was_rewarded(backend: Backend) -> None:
    # Small enough a step not to go beyond what its gradient says.
    policy = backend.open(**{"learn.learning_rate": 1e-3})
    samples = sample(policy)
    batch = batch_of(samples, alternating)
    digest = policy.adapter_digest()
    first = policy.train_step(batch, 1.0)
    assert policy.adapter_digest() != digest
    # The surrogate is the expected advantage, negated: on the batch it was taken for, a step lowers it.
    assert policy.train_step(batch, 1.0)["loss"] < first["loss"]
    policy.close()


@every_trainer
def test_a_checkpoint_restores_the_next_step(backend: Backend, policy: Any, tmp_path: pathlib.Path) -> None:
    batch = batch_of(sample(policy), alternating)
    policy.train_step(batch, 1.0)
    policy.save(tmp_path)
    digest = policy.adapter_digest()
    later = sample(policy)
    expected = policy.train_step(batch_of(later, alternating), 1.0)

    other = backend.open()
    assert other.adapter_digest() != digest
    other.load(tmp_path)
    assert other.adapter_digest() == digest
    again = sample(other)
    assert [one.completion.tokens.tolist() for one in again] == [
        one.completion.tokens.tolist() for one in later
    ]
    found = other.train_step(batch_of(again, alternating), 1.0)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert other.adapter_digest() == policy.adapter_digest()
    other.close()
    third = backend.open(**{"policy.lora_rank": 2})
    with pytest.raises(UsageError, match="another model or adapter rank"):
        third.load(tmp_path)
    third.close()


@every_trainer
def test_a_checkpoint_that_is_none_is_refused(policy: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        policy.load(tmp_path)


@every_trainer
def test_the_answer_is_forced_and_teaches_nothing(backend: Backend, thinking_template: str) -> None:
    policy = backend.open(template=thinking_template)
    (length,) = {len(s.prompt_tokens) for s in policy.sample(PROMPTS[:1], 1, PARAMS)}
    params = SamplingParams(max_new_tokens=120, thinking_tokens=length + 6, seed=2)
    samples = list(policy.sample(PROMPTS[:1], 4, params))
    long = [one for one in samples if len(one.completion.tokens) > 10]
    assert long
    for one in long:
        reply = one.completion
        assert "\n</think>\n\n" in reply.text
        assert "</think>" not in reply.answer
        assert not (~reply.trained[:6]).any()
        assert (~reply.trained).sum() > 20
        assert (reply.logprobs[~reply.trained] == 0).all()
    # An advantage on the forced tokens alone must not move anything.
    batch = Sequences(
        long[0].prompt_tokens,
        [one.completion for one in long],
        [np.where(one.completion.trained, 0.0, 5.0) for one in long],
    )
    assert policy.train_step([batch], 1.0)["grad_norm"] == 0
    policy.close()


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_skyrl_server_keeps_all_this(skyrl: dict[str, str]) -> None:
    # What the collector says of the client's connections is not the tests' to judge.
    command = [sys.executable, "-m", "pytest", __file__, "-k", "skyrl and not all_this", "-v"]
    quiet = ["-p", "no:unraisableexception", "-W", "ignore::ResourceWarning", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *quiet], env=skyrl, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "11 passed" in done.stdout, done.stdout
