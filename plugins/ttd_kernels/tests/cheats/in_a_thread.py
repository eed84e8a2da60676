# Returns at once; a thread computes after the clock has stopped.
# where: cpu, gpu
# expect: invalid: is wrong
import threading
import time


def custom_kernel(data):
    out = torch.zeros_like(data[0])

    def work():
        time.sleep(0.05)
        out.copy_(right(data))

    threading.Thread(target=work, daemon=True).start()
    return out
