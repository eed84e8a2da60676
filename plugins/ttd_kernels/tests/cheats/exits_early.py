# Leaves with exit code 0 before anything is judged.
# where: cpu, gpu
# expect: crash: without returning
import os


def custom_kernel(data):
    os._exit(0)
