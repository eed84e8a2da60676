# Replaces every function of the harness's modules that it finds.
# where: cpu, gpu
# expect: invalid: is wrong
import sys

for name, module in list(sys.modules.items()):
    if name.startswith("ttd_") or name == "reference":
        for part in ("compare", "find_wrong", "same", "check", "expected"):
            if hasattr(module, part):
                setattr(module, part, lambda *_, **__: "")


def custom_kernel(data):
    return torch.zeros_like(data[0])
