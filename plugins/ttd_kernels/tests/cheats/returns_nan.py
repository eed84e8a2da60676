# Hopes that NaN compares as equal.
# where: cpu, gpu
# expect: invalid: NaN or infinite
def custom_kernel(data):
    return torch.full_like(data[0], float("nan"))
