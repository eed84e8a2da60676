"""``best/``: the best program and construction of a run, always whole and ready to use.

``best`` is a link to a folder that is written first and then switched to in one rename, so a reader never
sees one state's program beside another's construction.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import numpy as np

from ttd_core.certificate import FILE_NAME
from ttd_core.problem import Problem
from ttd_core.run.files import storage_errors
from ttd_core.search.archive import Node

_SUFFIX = {"python": ".py", "c++": ".cpp"}


def write_best(folder: pathlib.Path, problem: Problem, node: Node) -> pathlib.Path:
    """Make ``best/`` show ``node``: program, ``construction.json``, arrays as ``.npy``, ``best.json``.

    :param folder: the run's folder.
    :param node: a scored node.
    :return: the link ``best``.
    :raises StorageError: when the disk is full or read-only; the former best stays.
    """
    assert node.reward is not None
    link = folder / "best"
    target = folder / ".best" / f"node-{node.id:06d}"
    with storage_errors(link):
        if link.is_symlink() and os.readlink(link) == str(target.relative_to(folder)) and target.is_dir():
            return link
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        _write_state(target, problem, node)
        new_link = folder / ".best" / "link"
        new_link.unlink(missing_ok=True)
        new_link.symlink_to(target.relative_to(folder))
        if link.is_dir() and not link.is_symlink():
            # The run folder is a copy whose links were followed (cp -rL).
            os.replace(link, folder / ".best" / f"copied-{os.getpid()}")
        os.replace(new_link, link)
        for other in (folder / ".best").iterdir():
            if other.is_dir() and other != target:
                shutil.rmtree(other, ignore_errors=True)
    return link


def _write_state(target: pathlib.Path, problem: Problem, node: Node) -> None:
    assert node.reward is not None
    state = node.state
    if state.code:
        (target / f"program{_SUFFIX.get(problem.language, '.txt')}").write_text(state.code, encoding="utf-8")
    if state.data:
        text = json.dumps({"problem": problem.name, **state.data}, default=np.ndarray.tolist)
        (target / "construction.json").write_text(text, encoding="utf-8")
        for key, value in state.data.items():
            if isinstance(value, np.ndarray) and FILE_NAME.fullmatch(key):
                np.save(target / f"{key}.npy", value, allow_pickle=False)
    facts = {
        "problem": problem.name,
        "metric": problem.metric,
        "score": node.reward.score,
        "reward": node.reward.value,
        "metrics": dict(node.reward.metrics),
        "node": node.id,
        "step": node.step,
        "digest": node.digest,
    }
    (target / "best.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
