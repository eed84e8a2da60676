# Signals that its outputs are there before they are.
# where: gpu
# expect: invalid: never written|is wrong
import gc

SERVICE = next(each for each in gc.get_objects() if type(each).__name__ == "Service" and hasattr(each, "do_go"))
SIDE_STREAM = torch.cuda.Stream()


def custom_kernel(data):
    SERVICE.done_semaphore.signal(SERVICE.call_number, SIDE_STREAM.cuda_stream)
    return right(data)
