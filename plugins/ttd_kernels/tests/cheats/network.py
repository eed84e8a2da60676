# Asks another machine for the answer.
# where: cpu, gpu
# expect: forbidden: PermissionError
import socket


def custom_kernel(data):
    with socket.create_connection(("192.0.2.1", 80), timeout=1):
        return right(data)
