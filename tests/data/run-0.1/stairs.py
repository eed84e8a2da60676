"""The problem that the run beside it was made of: three numbers in [0, 1] whose sum is large."""

import numpy as np

from ttd_core import Baseline, Problem, Reward


class Stairs(Problem):
    name = "stairs"
    title = "Three high stairs"
    metric = "sum"
    direction = "max"
    baselines = (Baseline("somebody", 2.5, "a paper"),)
    preload = ("numpy",)

    def task(self):
        return "Return three numbers in [0, 1] whose sum is large."

    def construct(self, value):
        return {"heights": np.array(value, dtype=float)}

    def check(self, state):
        heights = state.data.get("heights")
        if not isinstance(heights, np.ndarray) or heights.shape != (3,):
            return ["there must be three numbers"]
        return [] if np.all((heights >= 0) & (heights <= 1)) else ["a number is not in [0, 1]"]

    def reward(self, state):
        total = float(state.data["heights"].sum())
        return Reward(total, total, {"highest": float(state.data["heights"].max())})

    def inject(self, state):
        return {"last": list(state.data.get("heights", [0.1, 0.2, 0.3]))}

    def starting_program(self):
        return "def run(seed, budget_s, **kwargs):\n    return [0.1, 0.2, 0.3]\n"
