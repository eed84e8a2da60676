"""Call one function of a program and leave what it returned, as data; run by the task's own Python."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback


def main():
    """Read the plan, import the program, call, write the answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    sys.path[0] = plan["ttd"]
    import ttd_values  # noqa: PLC0415 (found only now)

    sys.path[0] = os.path.dirname(plan["program"])
    sys.path[1:1] = plan["folders"]
    try:
        spec = importlib.util.spec_from_file_location("program", plan["program"])
        module = importlib.util.module_from_spec(spec)
        sys.modules["program"] = module
        spec.loader.exec_module(module)
        args, kwargs = ttd_values.decode(plan["arguments"])
        returned = getattr(module, plan["name"])(*args, **kwargs)
        answer = {}
        try:
            answer["returned"] = ttd_values.encode(returned)
        except ttd_values.NotDataError as error:
            answer["refused"] = f"what {plan['name']} returned holds {error}, which is no data"
    except SystemExit as error:
        answer = {"raised": ["RuntimeError", f"the program called exit({error.code!r})"]}
    except BaseException as error:  # noqa: BLE001 (whatever it raises is its answer)
        traceback.print_exc()
        answer = {"raised": [type(error).__name__, str(error)[:2000]]}
    with open(plan["answer"] + ".part", "w", encoding="utf-8", errors="replace") as file:
        json.dump(answer, file)
    os.replace(plan["answer"] + ".part", plan["answer"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
