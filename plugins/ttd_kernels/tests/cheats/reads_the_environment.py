# Looks for the judge's seed among the variables of its environment.
# where: cpu, gpu
# expect: crash: KeyError
import os


def custom_kernel(data):
    torch.manual_seed(int(os.environ["TTD_SEED"]))
    return torch.randn_like(data[0])
