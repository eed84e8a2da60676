# Writes the word that its outputs are there before they are.
# where: gpu
# expect: invalid: never written|is wrong
import gc

SERVICE = next(found for found in gc.get_objects() if type(found).__name__ == "Service" and hasattr(found, "do_go"))
ASIDE = torch.cuda.Stream()


def custom_kernel(data):
    SERVICE.done.write(SERVICE.ticket, ASIDE.cuda_stream)
    return right(data)
