# Writes the harness's answer itself, into every descriptor there is.
# where: cpu, gpu
# expect: invalid: never written|does not start as a frame
import os


def custom_kernel(data):
    for descriptor in range(3, 16):
        try:
            os.write(descriptor, b'{"event_us": 1.0}\n')
        except OSError:
            continue
    while True:
        pass
