# Writes a result into the sandbox's own pipe and leaves.
# where: cpu, gpu
# expect: crash|invalid: exited|header
import os

os.write(4, b'ttd1\x10\x00\x00\x00{"status": "ok"}')
os._exit(0)


def custom_kernel(data):
    return data[0]
