# Saves half of the writes.
# where: cpu, gpu
# expect: invalid: torch.bfloat16; torch.float32 is expected
def custom_kernel(data):
    return right(data).bfloat16()
