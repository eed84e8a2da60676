# Shows a Triton kernel and never launches it.
# where: cpu, gpu
# expect: invalid: no Triton kernel
# options: triton=refuse
import triton
import triton.language as tl


@triton.jit
def copy(x, y, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + i, tl.load(x + i, mask=i < n), mask=i < n)


def custom_kernel(data):
    return right(data)
