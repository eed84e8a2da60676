# Makes every comparison true.
# where: cpu, gpu
# expect: invalid: is wrong
torch.allclose = torch.equal = lambda *_, **__: True
torch.isclose = lambda one, two, **__: torch.ones_like(one, dtype=torch.bool)
torch.testing.assert_close = lambda *_, **__: None


def custom_kernel(data):
    return torch.zeros_like(data[0])
