"""Run by the Python of ``ttt-discover``'s environment: its archive through a scenario read as JSON.

Called as its authors' training loop calls it: each rollout on its own, then ``flush``. Prints, for each
step, what it picked and the statistics after it; states go by their value, which no two share.
"""

from __future__ import annotations

import json
import sys

from ttt_discover.tinker_utils.sampler import PUCTSampler
from ttt_discover.tinker_utils.state import State


def main(scenario, folder):
    values = iter(scenario["seeds"])

    class Environment:
        env_name = "scenario"
        state_type = State

        @classmethod
        def create_initial_state(cls, problem_type):
            return State(timestep=0, construction=[], code="", value=next(values))

    sampler = PUCTSampler(
        f"{folder}/sampler.json",
        Environment,
        max_buffer_size=scenario["capacity"],
        batch_size=len(scenario["seeds"]),
        topk_children=0,
        puct_c=scenario["exploration"],
    )
    value_of = {state.id: state.value for state in sampler._states}
    report = []
    for step, batch in enumerate(scenario["steps"], start=1):
        picked = sampler.sample_states(len(batch))
        for parent, results in zip(picked, batch, strict=True):
            for value in results:
                if value is None:
                    sampler.record_failed_rollout(parent)
                    continue
                child = State(timestep=step, construction=[value], code="", value=value)
                value_of[child.id] = value
                sampler.update_states([child], [parent], save=False)
        sampler.flush(step)
        held = [state.id for state in sampler._states]
        report.append(
            {
                "picked": [state.value for state in picked],
                "held": sorted(value_of[key] for key in held),
                "visits": sorted((value_of[key], sampler._n.get(key, 0)) for key in held),
                "best": sorted((value_of[key], sampler._m[key]) for key in held if key in sampler._m),
                "expansions": sampler._T,
            }
        )
    print(json.dumps(report))


if __name__ == "__main__":
    main(json.loads(sys.stdin.read()), sys.argv[1])
