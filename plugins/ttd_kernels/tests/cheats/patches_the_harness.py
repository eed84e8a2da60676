# Replaces every function of the harness's that may check something.
# where: cpu, gpu
# expect: invalid: is wrong
import sys

for name, module in list(sys.modules.items()):
    if name.startswith("ttd_") or name == "reference":
        for owner in (module, getattr(module, "Service", module)):
            for part in ("compare", "describe_mismatch", "all_close", "check", "expected_outputs", "copy_out"):
                if hasattr(owner, part):
                    setattr(owner, part, lambda *_, **__: "")


def custom_kernel(data):
    return torch.zeros_like(data[0])
