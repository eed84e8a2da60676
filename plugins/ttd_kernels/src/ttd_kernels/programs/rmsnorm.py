"""RMSNorm forward and backward in one pass over x and the gradient, and the weight's gradient by a fixed grid.

As many programs as the GPU holds at once share the rows. Each reads a row of x and of the gradient once, has both
of its sums (x * x, and gradient * weight * x) in one exchange between warps, writes y and dx, and adds to its own
part of the weight's gradient in registers. Rows to come are on their way to shared memory meanwhile.

The parts, one row of float32 a program, are then added up in a fixed order, so equal inputs give equal bits. Where
all programs are resident (a cooperative launch) they wait for each other and each adds up some columns; elsewhere
a second kernel does it.
"""

import functools

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

EPS = 1e-6


@triton.jit
def meet(gate_ptr):
    """Every program of the grid waits here for all others, and sees what they have written.

    The gate's top bit turns over when all have come: program 0 adds 2**31 - (programs - 1), all others 1, so the
    gate is ready for the next launch, whatever grid that has.
    """
    tl.debug_barrier()
    step = tl.where(tl.program_id(0) == 0, 2147483647 - (tl.num_programs(0) - 2), 1)
    before = tl.atomic_add(gate_ptr, step, sem="acq_rel", scope="gpu")
    now = before
    while (before ^ now) >= 0:
        now = tl.inline_asm_elementwise(
            "ld.acquire.gpu.global.s32 $0, [$1];", "=r,l", [gate_ptr], tl.int32, is_pure=False, pack=1)  # fmt: skip
    tl.debug_barrier()


@triton.jit
def add_parts(
    part_ptr, dweight_ptr, D, parts, first, last, step,
    ROWS: tl.constexpr, COLS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    """Sum `parts` rows of D for every `step`-th block of COLS columns from `first` on, ROWS a turn."""
    for block in tl.range(first, last, step):
        c = block * COLS + tl.arange(0, COLS)
        total = tl.zeros([ROWS, COLS], tl.float32)
        for turn in tl.static_range(TURNS):
            r = turn * ROWS + tl.arange(0, ROWS)
            inside = (r < parts)[:, None] & (c < D)[None, :]
            total += tl.load(part_ptr + r[:, None] * D + c[None, :], mask=inside, other=0.0, cache_modifier=".cg")
        tl.store(dweight_ptr + c, tl.sum(total, 0), mask=c < D)


@triton.jit
def norm_rows(
    x_ptr, weight_ptr, gradient_ptr, y_ptr, dx_ptr, dweight_ptr, part_ptr, gate_ptr, T, D, inverse, eps,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, WHOLE: tl.constexpr, MEET: tl.constexpr,
    SUM_ROWS: tl.constexpr, SUM_COLS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    """All rows, ROWS at a time, BLOCK >= D columns; `inverse` is 1 / D. WHOLE: BLOCK is D and 16 divides it."""
    pid = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    some = tl.arange(0, ROWS)
    width = c < D
    weight = tl.load(weight_ptr + c, mask=width, other=0.0)
    dweight = tl.zeros([BLOCK], tl.float32)
    for tile in tl.range(pid, tl.cdiv(T, ROWS), tl.num_programs(0), num_stages=STAGES):
        r = tile * ROWS + some
        at = r.to(tl.int64)[:, None] * D + c[None, :]
        inside = (r < T)[:, None]
        if not WHOLE:
            inside = inside & width[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(gradient_ptr + at, mask=inside, other=0.0).to(tl.float32)
        inner = g * weight[None, :]
        squares, products = tl.split(tl.sum(tl.join(x * x, inner * x), 1))
        scale = tl.rsqrt(squares * inverse + eps)
        back = scale * scale * scale * (products * inverse)
        unit = x * scale[:, None]
        tl.store(y_ptr + at, (unit * weight[None, :]).to(tl.bfloat16), mask=inside)
        tl.store(dx_ptr + at, (inner * scale[:, None] - x * back[:, None]).to(tl.bfloat16), mask=inside)
        dweight += tl.sum(g * unit, 0)
    tl.store(part_ptr + pid.to(tl.int64) * D + c, dweight, mask=width)
    if MEET:
        meet(gate_ptr)
        programs = tl.num_programs(0)
        add_parts(
            part_ptr, dweight_ptr, D, programs, pid, tl.cdiv(D, SUM_COLS), programs, SUM_ROWS, SUM_COLS, TURNS)  # fmt: skip


@triton.jit
def sum_parts(part_ptr, dweight_ptr, D, parts, ROWS: tl.constexpr, COLS: tl.constexpr, TURNS: tl.constexpr):
    """[parts, D] to [D], COLS columns a program."""
    first = tl.program_id(0)
    add_parts(part_ptr, dweight_ptr, D, parts, first, first + 1, 1, ROWS, COLS, TURNS)


INTERPRETED = isinstance(norm_rows, InterpretedFunction)

#: By the least width: rows of a tile, stages, warps, programs on a multiprocessor.
PLANS = ((8193, 1, 1, 16, 1), (4097, 1, 4, 16, 1), (2049, 1, 4, 8, 2), (1025, 2, 4, 8, 2), (1, 2, 4, 4, 4))
#: Registers of a multiprocessor, which its programs share, so that all of them are resident.
REGISTERS = 65536
#: Elements of the parts that a program adds up at once, and columns at least and at most.
SUM_TILE, LEAST_COLUMNS, MOST_COLUMNS = 4096, 16, 64


def plan_for(width):
    """Rows of a tile, stages, warps and programs on a multiprocessor for rows of `width` channels."""
    return next(plan[1:] for plan in PLANS if width >= plan[0])


@functools.cache
def multiprocessors(device):
    """How many the device has, and whether it can hold a grid of programs that wait for each other."""
    if INTERPRETED:
        return 2, False
    properties = torch.cuda.get_device_properties(device)
    return properties.multi_processor_count, properties.major in (9, 10)


_SCRATCH = {}


def scratch(parts, width, device):
    """Memory for the parts [parts, width] and a gate, kept from call to call; parts are written before they are read."""
    key = (parts, width, device)
    if key not in _SCRATCH:
        _SCRATCH.clear()
        _SCRATCH[key] = (
            torch.empty((parts, width), dtype=torch.float32, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
        )
    return _SCRATCH[key]


def custom_kernel(data):
    """(y, dx, dweight) of `data` = (x [T, D], weight [D], gradient [T, D])."""
    x, weight, gradient = (each.contiguous() for each in data)
    T, D = x.shape
    rows, stages, warps, resident = plan_for(D)
    block = triton.next_power_of_2(D)
    count, together = multiprocessors(x.device)
    programs = min(count * resident, triton.cdiv(T, rows))
    columns = min(max(LEAST_COLUMNS, block // 128), MOST_COLUMNS)
    sums = SUM_TILE // columns, columns, triton.cdiv(programs, SUM_TILE // columns)
    parts, gate = scratch(programs, D, x.device)
    y, dx, dweight = torch.empty_like(x), torch.empty_like(x), torch.empty_like(weight)
    norm_rows[(programs,)](
        x, weight, gradient, y, dx, dweight, parts, gate, T, D, 1.0 / D, EPS,
        rows, block, stages, block == D and D % 16 == 0, together, *sums, num_warps=warps,
        maxnreg=REGISTERS // (32 * warps * resident), **({"launch_cooperative_grid": True} if together else {}))  # fmt: skip
    if not together:
        sum_parts[(triton.cdiv(D, columns),)](parts, dweight, D, programs, *sums)
    return y, dx, dweight
