# Has the harness's object call the kernel and answer at once, before the inputs are there.
# where: cpu, gpu
# expect: invalid: never written|is wrong
import gc
import types


def at_once(self, told):
    problem = self.copy_out(self.kernel(self.data))
    return {"wrong": problem} if problem else {"event_us": 1.0}


for found in gc.get_objects():
    if type(found).__name__ == "Service" and hasattr(found, "do_go"):
        found.do_go = types.MethodType(at_once, found)


def custom_kernel(data):
    return right(data)
