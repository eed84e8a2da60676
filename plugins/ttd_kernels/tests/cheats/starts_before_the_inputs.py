# Has the harness's object call the kernel and answer at once, before the inputs are there.
# where: cpu, gpu
# expect: invalid: never written|is wrong
import gc

SERVICE = next(each for each in gc.get_objects() if type(each).__name__ == "Service" and hasattr(each, "do_go"))


def at_once(message):
    wrong = SERVICE.copy_out(SERVICE.kernel(SERVICE.data))
    return {"wrong": wrong} if wrong else {"event_us": 1.0}


SERVICE.do_go = at_once
custom_kernel = right
