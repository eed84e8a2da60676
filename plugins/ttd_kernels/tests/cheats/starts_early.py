# A thread watches the shared memory and starts before the word to.
# where: gpu
# expect: rejected: judge's clock
import gc
import threading
import time

service = next(each for each in gc.get_objects() if type(each).__name__ == "Service" and hasattr(each, "do_go"))
ready = {}


def watch():
    seen = None
    while True:
        data = service.data
        if data is None or seen is data:
            time.sleep(0)
            continue
        first = data[2]["to_out.weight"].clone()
        while service.data is data and torch.equal(first, data[2]["to_out.weight"]):
            time.sleep(0)
        torch.cuda.synchronize()
        time.sleep(0.0003)
        ready[id(data)] = right(data)
        torch.cuda.synchronize()
        seen = data


threading.Thread(target=watch, daemon=True).start()


def custom_kernel(data):
    until = time.perf_counter() + 0.01
    while id(data) not in ready and time.perf_counter() < until:
        time.sleep(0)
    return ready.pop(id(data)) if id(data) in ready else right(data)
