# Has the harness's object call the kernel and answer at once, before the inputs are there.
# where: cpu, gpu
# expect: invalid: never written|is wrong
import gc

SERVICE = next(found for found in gc.get_objects() if type(found).__name__ == "Service" and hasattr(found, "do_go"))


def at_once(told):
    problem = SERVICE.copy_out(SERVICE.kernel(SERVICE.data))
    return {"wrong": problem} if problem else {"event_us": 1.0}


SERVICE.do_go = at_once
custom_kernel = right
