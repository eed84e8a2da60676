# Computes once for each shape.
# where: cpu, gpu
# expect: invalid: earlier inputs
known = {}


def custom_kernel(data):
    key = tuple(data[0].shape)
    if key not in known:
        known[key] = right(data)
    return known[key]
