# Finds the harness's object and has it report a microsecond, without waiting for the GPU.
# where: cpu, gpu
# expect: rejected|invalid: never written|judge's clock
import gc
import os
import types


def one_microsecond(self, told):
    self.synchronize = lambda: None
    for data, places in self.calls:
        problem = self.copy_out(self.kernel(data), places)
        if problem:
            return {"wrong": problem}
    return {"event_us": 1.0}


for found in gc.get_objects():
    if type(found).__name__ == "Service" and hasattr(found, "do_go"):
        found.do_go = types.MethodType(one_microsecond, found)


def custom_kernel(data):
    return right(data)
