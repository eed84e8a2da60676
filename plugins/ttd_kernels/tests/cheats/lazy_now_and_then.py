# Does part of the work after the events in every other call, so that some claims are true.
# where: cpu, gpu
# expect: infrastructure: too busy to take times
import itertools
import time

CALLS = itertools.count()


def custom_kernel(data):
    began = time.perf_counter()
    out = right(data)
    longer = 0.05 + 10 * (time.perf_counter() - began)
    if next(CALLS) % 2:
        out.detach = lambda: (time.sleep(longer), out.view(out.shape))[1]
    return out
