"""The lineage's data, and the PUCT terms as the search reckoned with them."""

from __future__ import annotations

import json

import pytest

from ttd_core import config as configs
from ttd_core.run.browsing import RunBrowser
from ttd_core.search.reuse import PuctReuse
from ttd_core.ui.tree import puct_terms


def test_every_state_is_in_the_tree_where_it_belongs(client, folder) -> None:
    tree = json.loads(client.get("/lineage.json?run=first").text)
    with RunBrowser.open(folder / "first") as run:
        states = run.states()
    assert tree["id"] == [state.id for state in states]
    assert tree["parent"] == [state.parent for state in states]
    assert {
        len(tree[name]) for name in ("id", "parent", "step", "row", "rank", "score", "visits", "place")
    } == {len(states)}
    assert tree["path"][-1] == tree["best"]
    assert len({tree["row"][tree["id"].index(node)] for node in tree["path"]}) == 1
    assert max(tree["rank"]) == 1


def test_the_terms_are_those_of_the_search(folder) -> None:
    with RunBrowser.open(folder / "first") as run:
        config = configs.from_toml(run.config())
        for step in (1, 2, 3):
            archive = run.load_archive(config.search, step - 1)
            nodes, table = PuctReuse().table(archive)
            for node in set(run.starts(step)):
                index = [each.id for each in nodes].index(node)
                told = next(
                    each for each in puct_terms(run, config, node) if each.when == f"picked in step {step}"
                )
                assert (told.quality, told.prior, told.score) == pytest.approx(
                    (table.quality[index], table.prior[index], table.score[index])
                )
                assert (told.visits, told.held) == (nodes[index].visits, len(nodes))
                assert table.order[told.rank - 1] == index


def test_why_a_state_was_picked_is_said(client) -> None:
    text = client.get("/parts/state?run=first&node=0").text
    assert "Picked in step 1." in text
    assert "Its score was number 2; 1 state picked before it. 1 group of the step started here." in text
    assert "Now." in text
    assert client.get("/parts/state?run=first&node=999").status == 404
    assert client.get("/parts/state?run=first&node=x").status == 404
