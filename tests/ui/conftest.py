"""A real server over real run folders, written through the run's own store, and a client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator

import attrs
import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.learn.learner import LearnedLogprobs
from ttd_core.run import events
from ttd_core.run.problem_record import ProblemRecord
from ttd_core.run.setup import CONFIG_FILE
from ttd_core.run.store import RunStore
from ttd_core.run.tokens import keep_tokens
from ttd_core.search.archive import Archive
from ttd_core.search.reuse import reuse_from_config
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict
from ttd_core.ui.server import PageServer

#: What a candidate may write to be more than text: markup, entities, marks that turn text, controls.
HOSTILE = (
    "<script>alert(1)</script>&lt;b&gt;\"'</pre></td>\u202egnp.\u2066\x1b[31mred\x07"
    "<img src=x onerror=alert(2)>"
)
LONG_LINE = "x" * 1_000_000
FACTS = {
    "name": "heights",
    "title": f"Heights {HOSTILE}",
    "metric": "sum <i>",
    "direction": "max",
    "language": "python",
    "baselines": [{"label": "somebody <b>", "score": 2.5, "source": "a paper"}],
}
STEPS, GROUPS, SIZE = 3, 2, 4


class Speller:
    """Spells every token in the same hostile way."""

    def token_texts(self, ids: list[int]) -> list[str]:
        return [f"{HOSTILE}{number}" for number in ids]


def write_run(folder: pathlib.Path, *, steps: int = STEPS, seed: int = 0, finish: bool = True) -> RunStore:
    """A run of a problem that is not installed, every text of which is hostile; its store is still open."""
    wanted = {"steps": steps, "groups": GROUPS, "group_size": SIZE, "seed": seed}
    config = configs.load("not-installed", overrides=wanted)
    store = RunStore.create(folder, configs.to_toml(config))
    (folder / CONFIG_FILE).write_text(configs.to_toml(config))
    store.note_problem(ProblemRecord("a file", "", FACTS).to_text(), "")
    archive = Archive(config.search)
    archive.add_seeds(
        (State(code=f"seed = {n}  # {HOSTILE}"), Reward(0.5 + 0.1 * n, 0.5 + 0.1 * n)) for n in range(GROUPS)
    )
    store.commit_seeds(archive)
    sizes = {"groups": GROUPS, "group_size": SIZE, "steps": steps}
    store.record(
        events.run_started(run=str(folder), problem="heights", policy=f"a model {HOSTILE}", step=0, **sizes)
    )
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        picked = reuse_from_config(config.search).pick(archive, GROUPS, rng)
        store.record(events.step_started(step=step, starts=[node.id for node in picked]))
        groups = [
            Group(
                node.id,
                [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": f"Improve {HOSTILE}"},
                ],
                np.arange(7),
                [_rollout(step, group, index) for index in range(SIZE)],
            )
            for group, node in enumerate(picked)
        ]
        archive.admit(step, groups)
        advantages = [np.linspace(-1, 1, SIZE) for _ in groups]
        unlike = np.linspace(-5, 0, 10, dtype=np.float32)
        kept = (
            keep_tokens(groups, {(0, 0): LearnedLogprobs(unlike, unlike)}, Speller(), 1000)
            if step == 1
            else None
        )
        numbers = ({"reward_mean": 1.0}, {"sampling": 1.0})
        store.commit_step(step, groups, archive, *numbers, advantages=advantages, tokens=kept)
        best = max(reward.value for group in groups for reward in [r.verdict.reward for r in group] if reward)
        counts = {"rollouts": GROUPS * SIZE, "valid": 6, "mean_value": 1.0, "metrics": {}, "seconds": 2.0}
        store.record(events.step_finished(step=step, best_value=best, best_score=best, **counts))
    if finish:
        store.record(events.run_finished(step=steps, best_value=4.0, best_score=4.0, seconds=6.0))
    return store


def _rollout(step: int, group: int, index: int) -> Rollout:
    text = f"<think>because {HOSTILE}</think>\nThe answer {HOSTILE} of number {step}/{group}/{index}."
    tokens = np.arange(10 + index)
    completion = Completion(text, tokens, np.zeros(len(tokens), np.float32), np.ones(len(tokens), np.bool_))
    code = f"value = {step + group + index}\nprint('{HOSTILE}')\n"
    if index == SIZE - 1:
        output = LONG_LINE if (step, group) == (1, 0) else HOSTILE
        return Rollout(
            completion, Verdict.failed(Status.CRASH, f"ValueError: {HOSTILE}", code=code, output=output)
        )
    score = 1.0 + 0.1 * step + 0.01 * group + 0.001 * index
    state = State(code, {"value": [score]}, HOSTILE)
    return Rollout(
        completion, Verdict(Status.OK, "", state, Reward(score, score), code, HOSTILE, 0.5, "namespaces")
    )


@attrs.frozen
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    text: str


@attrs.define
class Client:
    """Sends requests to the page's server, with its token unless told otherwise."""

    server: PageServer

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.server.address).netloc

    @property
    def token(self) -> str:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.server.address).query)["token"][0]

    def get(self, path: str, method: str = "GET", body: str | None = None, **headers: str | None) -> Answer:
        """One request; a header of ``None`` is left out, and ``_`` in its name stands for ``-``."""
        given = {"Host": self.host, "Authorization": f"Bearer {self.token}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            content = (body or "").encode()
            if body is not None:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content or None)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read().decode())

    def post(self, path: str, value: object, **headers: str | None) -> Answer:
        """Post JSON, as the page's script does."""
        return self.get(
            path,
            "POST",
            json.dumps(value),
            **{"Content_Type": "application/json", "Origin": f"http://{self.host}"} | headers,
        )

    def follow(self, path: str) -> Iterator[dict]:
        """The messages of a stream."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            while line := response.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


@contextlib.contextmanager
def serving(root: pathlib.Path, port: int = 0) -> Iterator[Client]:
    """A server in a thread, by default on a free port."""
    server = PageServer.open(root, "127.0.0.1", port)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield Client(server)
    finally:
        server.end()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> pathlib.Path:
    """A folder of runs: two seeds of one config and one in a folder of an experiment."""
    root = tmp_path_factory.mktemp("runs")
    for name, seed in (("first", 0), ("second", 1), ("grid/third", 2)):
        write_run(root / name, seed=seed).close()
    return root


@pytest.fixture(scope="session")
def client(folder) -> Iterator[Client]:
    """A client of a server over that folder."""
    with serving(folder) as made:
        yield made


@pytest.fixture
def serve() -> Iterator[Callable[[pathlib.Path], Client]]:
    """Serve another folder for the length of a test."""
    with contextlib.ExitStack() as stack:
        yield lambda root: stack.enter_context(serving(root))
