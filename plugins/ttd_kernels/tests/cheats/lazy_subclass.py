# A tensor that computes itself when it is read.
# where: cpu, gpu
# expect: invalid: not a plain tensor
class Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), named=None):
        plain = [right(each.source) if isinstance(each, Lazy) else each for each in arguments]
        return function(*plain, **(named or {}))


def custom_kernel(data):
    out = torch.empty_like(data[0]).as_subclass(Lazy)
    out.source = data
    return out
