# Saves the mask's reads, as a published kernel does.
# where: cpu, gpu
# expect: invalid: the mask is ignored
def custom_kernel(data):
    x, mask, weights, config = data
    return right((x, torch.ones_like(mask), weights, config))
