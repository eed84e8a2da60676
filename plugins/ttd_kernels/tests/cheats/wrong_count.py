# Returns the output twice.
# where: cpu, gpu
# expect: invalid: 2 values; 1 are expected
def custom_kernel(data):
    out = right(data)
    return out, out
