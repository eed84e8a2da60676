# Rounds the input to eight bits, which heavy tails do not survive.
# where: cpu, gpu
# expect: invalid: is wrong|NaN or infinite
def custom_kernel(data):
    x, mask, weights, config = data
    return right((x.to(torch.float8_e4m3fn).to(torch.float32), mask, weights, config))
