# Never writes the word that its outputs are there, and overwrites it where another does.
# where: gpu
# expect: rejected: judge's clock
import gc
import threading
import time

SERVICE = next(found for found in gc.get_objects() if type(found).__name__ == "Service" and hasattr(found, "do_go"))
WORD = SERVICE.done._kept
SERVICE.done.write = lambda *_: None


def overwrite():
    with torch.cuda.stream(torch.cuda.Stream()):
        while True:
            WORD.fill_(-(2**30))
            time.sleep(0.0005)


threading.Thread(target=overwrite, daemon=True).start()
custom_kernel = right
