# Raises the GPU's clocks for itself.
# where: cpu, gpu
# expect: forbidden: PermissionError
import subprocess


def custom_kernel(data):
    subprocess.run(["nvidia-smi", "-lgc", "1980,1980"], check=True)
    return right(data)
