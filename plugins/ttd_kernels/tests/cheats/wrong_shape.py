# Returns one batch fewer, to be spread over all.
# where: cpu, gpu
# expect: invalid: is expected
def custom_kernel(data):
    return right(data)[:, :1]
