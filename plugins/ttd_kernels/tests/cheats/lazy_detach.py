# A plain tensor whose `detach` does the work: after the events, before the copy.
# where: cpu, gpu
# expect: rejected: judge's clock
def custom_kernel(data):
    out = torch.empty_like(data[0])
    out.detach = lambda: right(data)
    return out
