# Returns the output of the call before and leaves this one's work to a later call.
# where: cpu, gpu
# expect: invalid: earlier inputs
waiting = {}


def custom_kernel(data):
    key = tuple(data[0].shape)
    x, mask, weights, config = data
    copy = x.clone(), mask.clone(), {name: value.clone() for name, value in weights.items()}, config
    earlier = waiting.get(key, copy)
    waiting[key] = copy
    return right(earlier)
