# Leaves a file for a later candidate.
# where: cpu, gpu
# expect: forbidden: Read-only|denied|not permitted
def custom_kernel(data):
    with open("/tmp/answers", "wb") as file:
        file.write(b"x")
    return right(data)
