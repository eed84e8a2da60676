# Makes the weights zero, so that zeros would be right.
# where: cpu, gpu
# expect: invalid: is wrong
def custom_kernel(data):
    for value in data[2].values():
        value.zero_()
    data[1].zero_()
    return torch.zeros_like(data[0])
