"""Print the scores of the base model alone and of the starting program, measured as a run does."""

from __future__ import annotations

import sys

from ttd_core import Action, State, Verdict
from ttd_core.sandbox.local import LocalExecutor
from ttd_golf.problem import NgramEval


def main() -> int:
    """Run the starting program in the sandbox; 1 when it fails."""
    problem = NgramEval()
    with LocalExecutor(workers=1) as executor:
        state = problem.transition(State(), Action(problem.starting_program()), executor.run)
    if isinstance(state, Verdict):
        print(f"the starting program fails: {state.status}: {state.message}", file=sys.stderr)
        return 1
    print(f"bits per byte, {problem.text.size} bytes, Python {sys.version.split()[0]}")
    print(f"base model alone  {problem.base_alone:.4f}")
    print(f"starting program  {problem.reward(state).score:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
