# Looks for the verifier among the installed packages.
# where: cpu, gpu
# expect: crash|forbidden: No such file|Permission
def custom_kernel(data):
    with open(VERIFIER_PATH) as file:
        exec(file.read())
    return right(data)
