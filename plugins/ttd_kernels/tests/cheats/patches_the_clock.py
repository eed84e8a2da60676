# Replaces every clock, also those the harness has put aside.
# where: cpu, gpu
# expect: rejected: judge's clock
import sys
import time


def still(*_):
    still.now += 1e-7
    return still.now


still.now = 0.0
time.perf_counter = time.time = time.monotonic = still
for name, module in list(sys.modules.items()):
    if name.startswith("ttd_"):
        module._clock = still
if torch.cuda.is_available():
    torch.cuda.Event.elapsed_time = lambda *_: 1e-3


def custom_kernel(data):
    return right(data)
