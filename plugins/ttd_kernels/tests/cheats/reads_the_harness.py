# Looks for the expected output in every object and frame.
# where: cpu, gpu
# expect: invalid: is wrong
import gc
import inspect
import sys


def custom_kernel(data):
    wanted, mine = data[0].shape, {id(data[0])}
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, torch.Tensor) and value.shape == wanted and id(value) not in mine:
                return value.clone()
        frame = frame.f_back
    for value in gc.get_objects():
        if type(value) is torch.Tensor and value.shape == wanted and id(value) not in mine:
            return value.clone()
    assert not [each for each in inspect.stack() if "expected" in each.function]
    return torch.zeros_like(data[0])
