"""Every backend keeps the policy contract: the same tests on each, remote ones against real servers too.

``TestTinker`` runs on a double of the client's classes; ``TestSkyRL`` is the same backend on a real server of
the protocol, ``TestServed`` the ``openai`` backend on a real server with a real model. SkyRL speaks to an
older client, so its turn is a process of its own, begun by the last test.
"""

from __future__ import annotations

import os
import pathlib
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import UsageError
from ttd_core.policy.base import Policy, SamplingParams
from ttd_core.policy.openai.policy import open_openai
from ttd_core.policy.scripted import open_scripted
from ttd_core.testing.policies import PolicyContract, TrainerContract


def make_config(backend: str, model: str, options: dict[str, Any], **changes: Any) -> RunConfig:
    keys = {"policy.backend": backend, "policy.model": model, "policy.options": options}
    return configs.load("none", overrides={**keys, **changes})


class BothLengths:
    """For models that tokenise by bytes: a prompt of 600 bytes is 600 tokens and the template's few."""

    long_prompt = "x" * 600

    def test_a_prompt_that_does_not_fit_names_both_lengths(self, policy: Any) -> None:
        super().test_a_prompt_that_does_not_fit_names_both_lengths(policy)  # type: ignore[misc]
        params = SamplingParams(context=512, max_new_tokens=4)
        with pytest.raises(UsageError) as caught:
            list(policy.sample([[{"role": "user", "content": "x" * 600}]], 1, params))
        assert re.search(r"(6\d\d.*512|512.*6\d\d)", str(caught.value))


class TestScripted(PolicyContract):
    keeps_limits = False
    refuses_long_prompts = False

    def open_policy(self, **changes: Any) -> Policy:
        return open_scripted(make_config("scripted", "", {"replies": ["one", "two", "three"]}, **changes))


class TestOpenAI(BothLengths, PolicyContract):
    """On a server of chat completions that keeps its limits."""

    @pytest.fixture(autouse=True)
    def chat(self) -> Iterator[Any]:
        double = runpy.run_path(str(pathlib.Path(__file__).with_name("chat_server.py")))

        def answer(body: dict[str, Any]) -> Any:
            asked = len(body["messages"][0]["content"])
            if asked > 400:
                message = f"the maximum context length is 512 tokens, the prompt has {asked}"
                return double["refusal"](400, message)
            return double["completion"](f"reply {body['seed']}"[: body["max_tokens"]], "length")

        with double["serving"]() as self.server:
            self.server.answer = answer
            yield

    def open_policy(self, **changes: Any) -> Policy:
        options = {"base_url": self.server.url}
        return open_openai(make_config("openai", "small", options, **{"learn.train": False, **changes}))


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.timeout(900)
class TestServed(PolicyContract):
    """On ``transformers serve`` with a real small model, which does not say how long a prompt may be."""

    refuses_long_prompts = False

    @pytest.fixture(autouse=True)
    def served(self, served_model: tuple[str, str]) -> None:
        self.url, self.model = served_model

    def open_policy(self, **changes: Any) -> Policy:
        # The server seeds one generator for all that it writes at once.
        options = {"base_url": self.url, "in_flight": 1}
        return open_openai(make_config("openai", self.model, options, **{"learn.train": False, **changes}))


class OurTrainer(BothLengths, TrainerContract):
    """What our own backends say, and the template that separates thinking."""

    other_adapter_message = "another model or adapter rank"
    unreadable_message = "cannot be read"
    least_forced = 21
    tells_recomputed = True

    open: Callable[..., Any]

    @pytest.fixture(autouse=True)
    def template(self, thinking_template: str) -> None:
        self.thinking_template = thinking_template

    def open_policy(self, **changes: Any) -> Policy:
        policy: Policy = self.open(**changes)
        return policy

    def open_thinking_policy(self) -> Policy:
        policy: Policy = self.open(template=self.thinking_template)
        return policy


class TestLocal(OurTrainer):
    @pytest.fixture(autouse=True)
    def opener(self, make_policy: Callable[..., Any]) -> None:
        def open_policy(template: str | None = None, **changes: Any) -> Any:
            keys = {"policy.lora_rank": 4, "learn.learning_rate": 1e-2, **changes}
            named = {key.replace(".", "__"): value for key, value in keys.items()}
            return make_policy(**({} if template is None else {"template": template}), **named)

        self.open = open_policy


class TestTinker(OurTrainer):
    @pytest.fixture(autouse=True)
    def opener(self, open_double: Callable[..., Any]) -> None:
        self.open = open_double


if "TTD_TEST_TINKER" in os.environ:

    class TestSkyRL(OurTrainer):
        @pytest.fixture(autouse=True)
        def opener(self, open_skyrl: Callable[..., Any]) -> None:
            self.open = open_skyrl


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
