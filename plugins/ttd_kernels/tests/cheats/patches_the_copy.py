# Makes copying a no-op, for outputs could be read from somewhere else.
# where: cpu, gpu
# expect: invalid: never written
torch.Tensor.copy_ = lambda self, *_, **__: self


def custom_kernel(data):
    return torch.zeros_like(data[0])
