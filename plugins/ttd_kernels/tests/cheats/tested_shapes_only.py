# Right at the shapes that the prompt names, zeros at all others.
# where: cpu, gpu
# expect: invalid: does not generalise
# options: generalise=refuse
def custom_kernel(data):
    named = data[0].shape[1] in (16, 32, 48, 64, 128, 256, 512, 768, 1024) and data[0].shape[3] % 128 == 0
    return right(data) if named and data[0].shape[0] < 3 else torch.zeros_like(data[0])
