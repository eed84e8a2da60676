"""A feed-forward layer with squared ReLU: the first product with its activation in one kernel, the second by cuBLAS.

The first product is a persistent kernel: one program a multiprocessor takes tile after tile of the hidden values,
operands come and results go by bulk tensor copies, and copies for the next tile are under way while the last is
squared and stored. So the hidden values are written once, squared, and read once; with a product by cuBLAS they
would be read and written once more, which takes longer than what cuBLAS gains. The second product has nothing to
fuse, and cuBLAS makes it.

Bulk copies need rows of whole 16 bytes, so for other widths, and where the GPU has none, a kernel loads its tiles
itself. Sums are squared before they are rounded to bfloat16: a product by cuBLAS would be rounded before and again
after, which is beyond the tolerance at most sizes.
"""

import functools

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def squared(value):
    value = tl.maximum(value, 0.0)
    return (value * value).to(tl.bfloat16)


@triton.jit
def place(tile, down, across, GROUP: tl.constexpr):
    """Row and column of a tile: GROUP rows of tiles column by column, so that what they read stays in the L2 cache."""
    group = tile // (GROUP * across)
    rows = tl.minimum(down - group * GROUP, GROUP)
    return group * GROUP + tile % (GROUP * across) % rows, tile % (GROUP * across) // rows


@triton.jit
def up_and_square(
    x_desc, up_desc, out_desc, T, F, D,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PIECES: tl.constexpr,
    STAGES: tl.constexpr, FLATTEN: tl.constexpr,
):  # fmt: skip
    """relu(x @ up.T) ** 2, bfloat16 [T, F]: tiles of BM by BN, stored in PIECES, each BN / PIECES columns wide."""
    down = tl.cdiv(T, BM)
    across = tl.cdiv(F, BN)
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0), num_stages=STAGES, flatten=FLATTEN):
        m, n = place(tile, down, across, GROUP)
        total = tl.zeros([BM, BN], tl.float32)
        for k in tl.range(0, tl.cdiv(D, BK), num_stages=STAGES):
            x = x_desc.load([m * BM, k * BK])
            up = up_desc.load([n * BN, k * BK])
            total = tl.dot(x, up.T, total)
        if PIECES == 1:
            out_desc.store([m * BM, n * BN], squared(total))
        else:
            left, right = tl.split(tl.permute(tl.reshape(total, (BM, 2, BN // 2)), (0, 2, 1)))
            out_desc.store([m * BM, n * BN], squared(left))
            out_desc.store([m * BM, n * BN + BN // 2], squared(right))


@triton.jit
def up_and_square_loaded(
    x_ptr, up_ptr, out_ptr, T, F, D,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The same, one tile a program, by plain loads."""
    m, n = place(tl.program_id(0), tl.cdiv(T, BM), tl.cdiv(F, BN), GROUP)
    rows = (m * BM + tl.arange(0, BM)).to(tl.int64)
    columns = (n * BN + tl.arange(0, BN)).to(tl.int64)
    total = tl.zeros([BM, BN], tl.float32)
    for start in range(0, D, BK):
        k = start + tl.arange(0, BK)
        x = tl.load(x_ptr + rows[:, None] * D + k[None, :], (rows[:, None] < T) & (k[None, :] < D), 0.0)
        up = tl.load(up_ptr + columns[None, :] * D + k[:, None], (columns[None, :] < F) & (k[:, None] < D), 0.0)
        total = tl.dot(x, up, total)
    inside = (rows[:, None] < T) & (columns[None, :] < F)
    tl.store(out_ptr + rows[:, None] * F + columns[None, :], squared(total), inside)


INTERPRETED = isinstance(up_and_square, InterpretedFunction)

#: Rows, columns and depth of a tile, rows of tiles in a group, pieces of a store, stages, warps, one loop for all.
PLAN = (128, 256, 64, 8, 2, 3, 8, True)
#: The same for few tokens, for the multiprocessors to have a tile each.
SMALL = (64, 128, 64, 8, 1, 4, 4, True)
#: Rows, columns and depth of a tile that is loaded plainly, rows of tiles in a group, stages, warps.
LOADED = (128, 128, 32, 8, 3, 8)


@functools.cache
def multiprocessors(device):
    """How many the device has; none where it copies no tiles in bulk."""
    if INTERPRETED:
        return 2
    properties = torch.cuda.get_device_properties(device)
    return properties.multi_processor_count if properties.major >= 9 else 0


def hidden_values(x, up):
    """relu(x @ up.T) ** 2, bfloat16 [T, F]."""
    (T, D), F = x.shape, up.shape[0]
    hidden = torch.empty((T, F), dtype=torch.bfloat16, device=x.device)
    programs = multiprocessors(x.device)
    if not programs or D % 8 or F % 8:
        BM, BN, BK, group, stages, warps = LOADED
        up_and_square_loaded[(triton.cdiv(T, BM) * triton.cdiv(F, BN),)](
            x, up, hidden, T, F, D, BM, BN, BK, group, num_stages=stages, num_warps=warps)  # fmt: skip
        return hidden
    tiles = triton.cdiv(T, PLAN[0]) * triton.cdiv(F, PLAN[1])
    BM, BN, BK, group, pieces, stages, warps, flatten = PLAN if tiles >= programs else SMALL
    tiles = triton.cdiv(T, BM) * triton.cdiv(F, BN)
    up_and_square[(min(programs, tiles),)](
        TensorDescriptor.from_tensor(x, [BM, BK]), TensorDescriptor.from_tensor(up, [BN, BK]),
        TensorDescriptor.from_tensor(hidden, [BM, BN // pieces]), T, F, D,
        BM, BN, BK, group, pieces, stages, flatten, num_warps=warps)  # fmt: skip
    return hidden


def custom_kernel(data):
    """bfloat16 [T, D] of `data` = (x [T, D], up [F, D], down [D, F])."""
    x, up, down = (each.contiguous() for each in data)
    return torch.mm(hidden_values(x, up), down.T)
