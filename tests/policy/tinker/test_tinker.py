"""The tinker backend's own part: what it sends, what it refuses, and how it says what went wrong."""

from __future__ import annotations

import http.server
import os
import pathlib
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import httpx
import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.config import LearnConfig
from ttd_core.errors import ConfigError, EnvironmentLacksError, ModelUnavailableError
from ttd_core.plugin import builtins
from ttd_core.policy.base import SamplingParams, Sequences
from ttd_core.policy.remote import ApiKey
from ttd_core.types import Completion, Message

tinker = pytest.importorskip("tinker")

from ttd_core.policy.models.chat import ChatCodec, ReplyLimits  # noqa: E402
from ttd_core.policy.models.reply import ReplyTokens  # noqa: E402
from ttd_core.policy.tinker import sampling  # noqa: E402
from ttd_core.policy.tinker.batch import build_data, protocol_loss, step_metrics  # noqa: E402
from ttd_core.policy.tinker.errors import plain_errors  # noqa: E402

PROMPTS: list[list[Message]] = [[{"role": "user", "content": "short"}]]
SECRET = "tml-secret"


def completion(trained: list[bool]) -> Completion:
    tokens = np.arange(10, 10 + len(trained))
    return Completion("x", tokens, np.full(len(trained), -0.5, np.float32), np.array(trained))


def batch(*completions: Completion) -> list[Sequences]:
    advantages = [np.full(len(one.tokens), 2.0) for one in completions]
    return [Sequences(np.arange(3), completions, advantages)]


def arrays(datum: Any) -> dict[str, list[float]]:
    return {name: tensor.to_numpy().tolist() for name, tensor in datum.loss_fn_inputs.items()}


def test_prompt_and_forced_tokens_have_no_advantage() -> None:
    (datum,), (one,) = build_data(batch(completion([True, False, True])), "sum")
    assert datum.model_input.to_ints() == [0, 1, 2, 10, 11]
    assert arrays(datum) == {
        "target_tokens": [1, 2, 10, 11, 12],
        "logprobs": [0, 0, -0.5, 0, -0.5],
        "advantages": [0, 0, 2, 0, 2],
    }
    assert one.trained.tolist() == [True, False, True]


def test_a_server_that_takes_means_is_given_sums() -> None:
    data, _ = build_data(batch(completion([True] * 2), completion([True] * 5)), "mean")
    for datum, length in zip(data, (4, 7), strict=True):
        # Divided by the sequence's length and by the two sequences, it is 2 again.
        assert set(np.array(arrays(datum)["advantages"])[2:] / length / 2) == {2.0}


def test_replies_without_tokens_are_left_out() -> None:
    data, kept = build_data(batch(completion([]), completion([True])), "sum")
    assert (len(data), len(kept)) == (1, 1)


@pytest.mark.parametrize(
    ("loss", "name", "settings"),
    [
        ("importance", "importance_sampling", None),
        ("truncated", "cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": 1.2}),
        ("clipped", "ppo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}),
    ],
)
def test_each_loss_has_its_name_in_the_protocol(loss: Any, name: str, settings: Any) -> None:
    assert protocol_loss(attrs.evolve(LearnConfig(), loss=loss)) == (name, settings)


@pytest.mark.parametrize(
    ("loss", "expected"), [("importance", -2 * 1.5), ("truncated", -2 * 1.2), ("clipped", -2 * 1.2)]
)
def test_metrics_of_a_step(loss: Any, expected: float) -> None:
    _, sequences = build_data(batch(completion([False, True])), "sum")
    recomputed = np.array([0, 0, -9.0, -0.5 + np.log(1.5)], np.float32)
    config = attrs.evolve(LearnConfig(), loss=loss)
    found = step_metrics([recomputed], sequences, config, {"a/grad_norm": 3})
    assert found == pytest.approx(
        {
            "loss": expected,
            "logprob_gap": np.log(1.5),
            "logprob_gap_max": np.log(1.5),
            "ratio_max": 1.5,
            "grad_norm": 3,
        },
        rel=1e-6,
    )


def test_a_group_is_asked_for_in_parts(open_double: Callable[..., Any]) -> None:
    policy = open_double(**{"policy.options": {"replies_per_request": 3}})
    samples = list(policy.sample(PROMPTS, 7, SamplingParams(max_new_tokens=3)))
    assert sorted(one.index for one in samples) == list(range(7))
    assert len({one.completion.text for one in samples}) > 4


def test_a_server_with_a_shorter_limit_ends_the_reply(make_tokenizer: Any, thinking_template: str) -> None:
    asked: list[int] = []

    def sample(prompt: Any, num_samples: int, sampling_params: Any) -> Any:
        asked.append(sampling_params.max_tokens)
        short = SimpleNamespace(tokens=[65] * 2, logprobs=[-1.0] * 2, stop_reason="length")
        answer = SimpleNamespace(sequences=[short] * num_samples)
        future: Any = sampling.concurrent.futures.Future()
        future.set_result(answer)
        return future

    codec = ChatCodec(make_tokenizer(thinking_template), configs.PolicyConfig())
    sampler = sampling.GroupSampler(SimpleNamespace(sample=sample), codec, ReplyLimits([200], [2]), 4)
    ((_, _, reply),) = sampler.replies([[1, 2, 3]], 1, seed=0)
    assert len(asked) == 2
    assert reply.trained[:2] == reply.trained[-2:] == [True, True]
    assert not any(reply.trained[2:-2])


def test_samples_without_logprobs_are_refused(make_tokenizer: Any) -> None:
    with pytest.raises(EnvironmentLacksError, match="without log-probabilities"):
        sampling.append_sequence(
            ReplyTokens(), SimpleNamespace(tokens=[1], logprobs=None, stop_reason="stop")
        )


def test_the_servers_context_counts(open_double: Callable[..., Any]) -> None:
    policy = open_double()
    length = len(next(policy.sample(PROMPTS, 1, SamplingParams(max_new_tokens=1))).prompt_tokens)
    narrow = open_double(**{"policy.options": {"longest_context": length + 2}})
    assert all(len(s.completion.tokens) <= 2 for s in narrow.sample(PROMPTS, 3, SamplingParams()))


def test_one_pass_a_step_and_nothing_but_ours_in_the_record(
    open_double: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    policy = open_double()
    samples = list(policy.sample(PROMPTS, 2, SamplingParams(max_new_tokens=4)))
    group = [one.completion for one in samples]
    item = Sequences(samples[0].prompt_tokens, group, [np.ones(len(one.tokens)) for one in group])
    policy.train_step([item], 1.0)
    assert len(policy.server.passes) == 1
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    policy.save(folder)
    assert [path.name for path in folder.iterdir()] == ["tinker.json"]
    assert SECRET not in (folder / "tinker.json").read_text()
    assert os.environ["TINKER_TELEMETRY"] == "0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy.temperature": 0.7}, "policy.temperature: .* leave it at 1"),
        ({"policy.lora_alpha": 16.0}, "policy.lora_alpha: .* fixes it at 32"),
        ({"policy.options": {"api_key": "tml-1"}}, "must hold no key.* TINKER_API_KEY"),
        ({"policy.options": {"base_ulr": "x"}}, "base_ulr'. Did you mean 'base_url'"),
        ({"policy.options": {"sequence_loss": "max"}}, "sequence_loss needs one of 'sum', 'mean'"),
    ],
)
def test_what_the_protocol_lacks_is_refused(
    open_double: Callable[..., Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_double(**changes)


def test_a_key_or_a_server_of_ones_own(
    open_double: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINKER_API_KEY")
    with pytest.raises(EnvironmentLacksError, match="set TINKER_API_KEY in the environment"):
        open_double()
    with pytest.raises(EnvironmentLacksError, match=r"no Tinker server answers at http://127.0.0.1:9:"):
        open_double(**{"policy.options": {"base_url": "http://127.0.0.1:9"}})


def test_a_model_that_is_not_offered(open_double: Callable[..., Any]) -> None:
    with pytest.raises(ModelUnavailableError, match=r"does not have model 'tinny'; it offers tiny\. Did you"):
        open_double(**{"policy.model": "tinny"})


def test_no_tokeniser(open_double: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"no tokeniser for .*policy\.options\.tokenizer"):
        open_double(**{"policy.options": {"tokenizer": str(tmp_path)}})


_REQUEST = httpx.Request("POST", "http://server/api")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            tinker.AuthenticationError(
                f"no {SECRET}", response=httpx.Response(401, request=_REQUEST), body=None
            ),
            "refuses access .*TINKER_API_KEY holds a key that is refused",
        ),
        (tinker.APIConnectionError(request=_REQUEST), "cannot be reached .*resume when it is up again"),
        (
            tinker.NotFoundError(
                "404", response=httpx.Response(404, request=_REQUEST), body={"detail": "Checkpoint not found"}
            ),
            "refuses: Checkpoint not found",
        ),
        (
            tinker.UnprocessableEntityError(
                "422",
                response=httpx.Response(422, request=_REQUEST),
                body={"detail": [{"loc": ["body", "rank"], "msg": "too large"}]},
            ),
            "refuses: rank: too large",
        ),
        (ValueError("JSON payload. The server predates proto"), "older form .*pip install 'tinker<=0.24.1'"),
    ],
)
def test_errors_are_one_line_without_the_key(error: Exception, words: str) -> None:
    with pytest.raises(EnvironmentLacksError, match=words) as caught:
        with plain_errors("http://server", ApiKey("TINKER_API_KEY", SECRET)):
            raise error
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def ask_what_is_offered(address: str) -> None:
    """Ask a server for its models, as the backend does when it opens."""
    # Clients up to 0.24.1 say what is offered themselves.
    client = tinker.RestClient if hasattr(tinker.ServiceClient, "close") else tinker.ServiceClient
    with plain_errors(address, ApiKey("TINKER_API_KEY", SECRET)):
        made = client(api_key="tml-none", base_url=address)
        sampling.await_result(made.get_server_capabilities())


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/html", b"<html><title>Log in</title></html>", "refuses: a web page: Log in"),
        ("application/json", b'{"a', "gives no answer that the client can read"),
        ("application/json", b"null", "gives no answer that the client can read"),
    ],
)
def test_a_server_of_something_else_is_one_line(kind: str, body: bytes, words: str) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            with pytest.raises(EnvironmentLacksError, match=words) as caught:
                ask_what_is_offered(address)
        finally:
            server.shutdown()
            thread.join()
    assert "\n" not in str(caught.value)


def test_bugs_of_our_own_are_not_the_servers() -> None:
    with pytest.raises(ValueError, match="ours"):
        with plain_errors("http://server", ApiKey("TINKER_API_KEY", "")):
            raise ValueError("ours")


@pytest.mark.parametrize("backend", ["openai", "tinker"])
def test_a_missing_library_is_named_with_its_extra(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(f"ttd_core.policy.{backend}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(EnvironmentLacksError, match=rf"pip install 'ttd-core\[{backend}\]'"):
        builtins.ttd_policies()[backend](configs.load("none"))
