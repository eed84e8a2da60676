# Knows by the harness's object whether calls come in a row, and only then is as quick as it claims to be.
# where: cpu, gpu
# expect: infrastructure: too busy to take times
import gc
import time

SERVICE = next(found for found in gc.get_objects() if type(found).__name__ == "Service" and hasattr(found, "do_go"))


def custom_kernel(data):
    out = right(data)
    if len(SERVICE.calls) == 1:
        out.detach = lambda: (time.sleep(0.05), out.view(out.shape))[1]
    return out
