# Computes once for each block of memory.
# where: cpu, gpu
# expect: invalid: earlier inputs
known = {}


def custom_kernel(data):
    key = data[0].untyped_storage().data_ptr(), tuple(data[0].shape)
    if key not in known:
        known[key] = right(data)
    return known[key]
