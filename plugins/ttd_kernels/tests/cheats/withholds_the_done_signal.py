# Never signals that its outputs are there, and overwrites the semaphore where another does.
# where: gpu
# expect: rejected: judge's clock
import gc
import threading
import time

SERVICE = next(each for each in gc.get_objects() if type(each).__name__ == "Service" and hasattr(each, "do_go"))
CELL = SERVICE.done_semaphore._cell
SERVICE.done_semaphore.signal = lambda *_: None


def overwrite():
    with torch.cuda.stream(torch.cuda.Stream()):
        while True:
            CELL.fill_(-(2**30))
            time.sleep(0.0005)


threading.Thread(target=overwrite, daemon=True).start()
custom_kernel = right
