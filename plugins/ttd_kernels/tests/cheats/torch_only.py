# Leaves all work to PyTorch where the rules ask for a kernel.
# where: cpu, gpu
# expect: invalid: no Triton kernel
# options: triton=refuse
def custom_kernel(data):
    return right(data)
