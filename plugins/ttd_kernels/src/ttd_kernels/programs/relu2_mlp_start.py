import torch
import triton
import triton.language as tl


@triton.jit
def product(a, b, c, m, n, k, SQUARED: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    # c = a @ b.T, then relu and square if SQUARED
    i = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    j = (tl.program_id(1) * N + tl.arange(0, N)).to(tl.int64)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, k, K):
        p = start + tl.arange(0, K)
        left = tl.load(a + i[:, None] * k + p[None, :], mask=(i[:, None] < m) & (p[None, :] < k), other=0.0)
        right = tl.load(b + j[:, None] * k + p[None, :], mask=(j[:, None] < n) & (p[None, :] < k), other=0.0)
        total = tl.dot(left, tl.trans(right), total)
    if SQUARED:
        total = tl.maximum(total, 0.0)
        total = total * total
    tl.store(c + i[:, None] * n + j[None, :], total.to(tl.bfloat16), mask=(i[:, None] < m) & (j[None, :] < n))


def multiply(a, b, squared):
    m, k, n = a.shape[0], a.shape[1], b.shape[0]
    c = torch.empty((m, n), device=a.device, dtype=torch.bfloat16)
    product[(triton.cdiv(m, 32), triton.cdiv(n, 32))](a, b, c, m, n, k, SQUARED=squared, M=32, N=32, K=32)
    return c


def custom_kernel(data):
    x, up, down = data
    return multiply(multiply(x, up, True), down, False)
