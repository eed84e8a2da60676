# Finds the harness's object and has it report a microsecond, without waiting for the GPU.
# where: cpu, gpu
# expect: rejected|invalid: never written|judge's clock
import gc
import os
import types


def one_microsecond(self, told):
    self.synchronize = lambda: None
    problem = self.copy_out(self.kernel(self.data))
    return {"wrong": problem} if problem else {"event_us": 1.0}


for found in gc.get_objects():
    if type(found).__name__ == "Service" and hasattr(found, "do_go"):
        found.do_go = types.MethodType(one_microsecond, found)


def custom_kernel(data):
    return right(data)
