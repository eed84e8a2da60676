"""`ahc058`: Apple Incremental Game. Which machine to strengthen in each of 500 turns (paper 4.3, D)."""

from __future__ import annotations

import numpy as np

from ttd_ahc import svg
from ttd_ahc.apples import KINDS, LEVELS, TURNS, draw_game, play, read_plan, score_of
from ttd_ahc.contest import OFFICIAL_CASES, TRAINING_CASES, Answer, Case, Contest
from ttd_core.problem import Baseline, Examples

#: Cases in the final standings.
FINAL_CASES = 150
#: Machines of a level with a curve of their own in a picture.
_SHOWN = 6


class Apples(Contest):
    """An answer is a plan: int32 [500, 1], ``level * 10 + kind`` or -1 for each turn."""

    name = "ahc058"
    title = "AtCoder Heuristic Contest 058: Apple Incremental Game"
    width = 1
    unit = 3_000_000.0
    # The best figure of the paper, a sum over the official cases, which are not in this package: what prompts
    # name, whatever is judged on.
    default_target = 848_414_228 / FINAL_CASES
    baselines = (
        Baseline(
            "best human",
            847_674_723 / FINAL_CASES,
            "published: the contest's final standings, sum 847,674,723",
            date="2025-12",
            on=OFFICIAL_CASES,
        ),
        Baseline(
            "TTT-Discover",
            848_414_228 / FINAL_CASES,
            "published: its paper, Table 6, sum 848,414,228",
            date="2026-01",
            on=OFFICIAL_CASES,
        ),
        Baseline(
            "a later claim",
            850_082_731 / FINAL_CASES,
            "claimed, sum 850,082,731",
            date="2026",
            on=OFFICIAL_CASES,
        ),
        Baseline(
            "TTT-Discover's program",
            850_954_917 / FINAL_CASES,
            "measured by us, one run, sum 850,954,917",
            date="2026-11",
            on=TRAINING_CASES,
        ),
        Baseline(
            "another public program",
            850_799_240 / FINAL_CASES,
            "measured by us, one run, sum 850,799,240",
            date="2026-11",
            on=TRAINING_CASES,
        ),
    )

    @classmethod
    def make_case(cls, seed: int) -> Case:
        """The case of a seed; its input is a :class:`~ttd_ahc.apples.Game`."""
        game = draw_game(seed)
        return Case(seed, game.text, game)

    def read_answer(self, case: Case, output: bytes) -> Answer:
        """The first 500 actions printed."""
        return read_plan(output)

    def score_answer(self, case: Case, answer: Answer) -> int:
        """``round(1e5 * log2(apples))`` after the last turn."""
        return score_of(play(case.input, answer[:, 0].tolist()).apples[-1])

    def picture(self, case: Case, answer: Answer) -> str | None:
        """Apples by turn, and the power of the machines bought, by level."""
        actions = answer[:, 0].tolist()
        playout = play(case.input, actions)
        title = f"seed {case.seed}: score {score_of(playout.apples[-1])}, {playout.apples[-1]} apples"
        panels = [("apples", [svg.Curve("apples", playout.apples)])]
        bought = np.array(actions)
        for level in range(LEVELS):
            machines = sorted(
                (machine for machine in range(level * KINDS, (level + 1) * KINDS) if playout.power[machine]),
                key=lambda machine: -playout.power[machine],
            )
            curves = [
                svg.Curve(f"kind {machine % KINDS}", np.cumsum(bought == machine).tolist())
                for machine in machines[:_SHOWN]
            ]
            panels.append((f"power of level {level}", curves))
        return svg.log_panels(title, panels)

    def examples(self) -> Examples:
        """Plans that buy once, twice or never, and plans that break a rule each."""
        count = len(self.seeds())
        idle = ["-1"] * TURNS
        never, once = "\n".join(idle), "\n".join(["0 0", *idle[1:]])
        rest = [never] * (count - 1)
        broken = (
            "",
            "\n".join(idle[1:]),
            "\n".join(["0 0 0", *idle]),
            "\n".join(["-1 0", *idle]),
            "\n".join(["0", *idle]),
            "\n".join(["4 0", *idle]),
            "\n".join(["0 10", *idle]),
            "\n".join(["3 9", *idle]),
            "\n".join(["zero", *idle]),
        )
        twice = "\n".join(["0 0", "-1", "0 0", *idle[3:]])
        return Examples(
            good=[[never] * count, [once] * count, [twice] * count],
            bad=[[], *([text, *rest] for text in broken)],
        )
