"""Triton kernels of decode attention over pages (split-KV flash attention). Launched by :mod:`.triton_ops`.

Softmax is computed piece by piece: of the keys seen so far a program keeps the largest score (``peak``), the
sum of exponentials over it (``total``), and the sum of values weighted by them (``acc``). Scores are in units
of log 2, so that ``exp2`` serves.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _add_page(
    query, key_page, value_page, length, scale, peak, total, acc, SIZE: tl.constexpr, PAGE: tl.constexpr
):
    """Add one page, of which ``length`` tokens count, to the running softmax."""
    token = tl.arange(0, PAGE)
    offset = token[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    counts = (token < length)[:, None]
    key = tl.load(key_page + offset, mask=counts, other=0.0)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    scores = tl.where((token < length)[None, :], scores, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.exp2(scores - new_peak[:, None])
    rescale = tl.exp2(peak - new_peak)
    value = tl.load(value_page + offset, mask=counts, other=0.0)
    acc = acc * rescale[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
    return new_peak, total * rescale + tl.sum(weights, 1), acc


@triton.jit
def attend_prompts(
    qkv,
    keys,
    values,
    tile_rows,
    tile_lengths,
    tile_page_table,
    acc_out,
    peak_out,
    total_out,
    scale,
    row_stride,
    page_stride,
    page_table_stride,
    tile_rows_stride,
    parts,
    splits,
    HEADS: tl.constexpr,
    HEADS_PER_KV: tl.constexpr,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a tile, key-value head and split: the queries of ROWS rows against part of a prompt."""
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    line = tl.arange(0, BLOCK)
    in_tile = line // HEADS_PER_KV
    row = tl.load(tile_rows + tile * tile_rows_stride + in_tile, mask=in_tile < ROWS, other=-1)
    row = row.to(tl.int64)
    used = row >= 0
    head = kv_head * HEADS_PER_KV + line % HEADS_PER_KV
    column = tl.arange(0, SIZE)
    query = tl.load(
        qkv + (row * row_stride + head * SIZE)[:, None] + column[None, :], mask=used[:, None], other=0.0
    )
    length = tl.load(tile_lengths + tile)
    pages = tl.cdiv(length, PAGE)
    pages_per_split = tl.cdiv(pages, splits)
    # A finite floor: an empty split, or a prompt of one token, then weighs nothing and never makes a NaN.
    peak = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, SIZE], tl.float32)
    first = split * pages_per_split
    for index in range(first, tl.minimum(first + pages_per_split, pages)):
        page = tl.load(tile_page_table + tile * page_table_stride + index).to(tl.int64)
        start = page * page_stride + kv_head * PAGE * SIZE
        peak, total, acc = _add_page(
            query, keys + start, values + start, length - index * PAGE, scale, peak, total, acc, SIZE, PAGE
        )
    part = (row * HEADS + head) * parts + split
    tl.store(peak_out + part, peak, mask=used)
    tl.store(total_out + part, total, mask=used)
    tl.store(acc_out + part[:, None] * SIZE + column[None, :], acc, mask=used[:, None])


@triton.jit
def attend_own(
    qkv,
    keys,
    values,
    own_lengths,
    page_table,
    acc_io,
    peak_io,
    total_io,
    output,
    scale,
    row_stride,
    page_stride,
    page_table_stride,
    parts,
    splits,
    PROMPT_SPLITS: tl.constexpr,
    HEADS: tl.constexpr,
    HEADS_PER_KV: tl.constexpr,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK: tl.constexpr,
    FINISH: tl.constexpr,
):
    """One program a row, key-value head and split. With FINISH it adds the prompt's parts and divides."""
    row, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    line = tl.arange(0, BLOCK)
    used = line < HEADS_PER_KV
    head = kv_head * HEADS_PER_KV + line
    column = tl.arange(0, SIZE)
    query = tl.load(
        qkv + row * row_stride + (head * SIZE)[:, None] + column[None, :], mask=used[:, None], other=0.0
    )
    length = tl.load(own_lengths + row) + 1
    pages = tl.cdiv(length, PAGE)
    pages_per_split = tl.cdiv(pages, splits)
    part = (row * HEADS + head) * parts
    peak = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, SIZE], tl.float32)
    first = split * pages_per_split
    for index in range(first, tl.minimum(first + pages_per_split, pages)):
        page = tl.load(page_table + row * page_table_stride + index).to(tl.int64)
        start = page * page_stride + kv_head * PAGE * SIZE
        peak, total, acc = _add_page(
            query, keys + start, values + start, length - index * PAGE, scale, peak, total, acc, SIZE, PAGE
        )
    if FINISH:
        for prompt_split in tl.static_range(PROMPT_SPLITS):
            prompt_part = part + prompt_split
            prompt_peak = tl.load(peak_io + prompt_part, mask=used, other=-1.0e30)
            prompt_total = tl.load(total_io + prompt_part, mask=used, other=0.0)
            prompt_acc = tl.load(
                acc_io + prompt_part[:, None] * SIZE + column[None, :], mask=used[:, None], other=0.0
            )
            new_peak = tl.maximum(peak, prompt_peak)
            rescale, prompt_rescale = tl.exp2(peak - new_peak), tl.exp2(prompt_peak - new_peak)
            acc = acc * rescale[:, None] + prompt_acc * prompt_rescale[:, None]
            total = total * rescale + prompt_total * prompt_rescale
            peak = new_peak
        result = (acc / total[:, None]).to(output.dtype.element_ty)
        tl.store(
            output + row * HEADS * SIZE + (head * SIZE)[:, None] + column[None, :], result, mask=used[:, None]
        )
    else:
        part += PROMPT_SPLITS + split
        tl.store(peak_io + part, peak, mask=used)
        tl.store(total_io + part, total, mask=used)
        tl.store(acc_io + part[:, None] * SIZE + column[None, :], acc, mask=used[:, None])


@triton.jit
def combine_parts(
    acc_in, peak_in, total_in, output, parts, HEADS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr
):
    """One program a row and head: the parts of its softmax combined and divided."""
    line = (tl.program_id(0) * HEADS + tl.program_id(1)).to(tl.int64)
    part = tl.arange(0, BLOCK)
    used = part < parts
    column = tl.arange(0, SIZE)
    peaks = tl.load(peak_in + line * parts + part, mask=used, other=-1.0e30)
    weights = tl.exp2(peaks - tl.max(peaks, 0))
    total = tl.sum(weights * tl.load(total_in + line * parts + part, mask=used, other=0.0), 0)
    acc = tl.load(
        acc_in + (line * parts + part)[:, None] * SIZE + column[None, :], mask=used[:, None], other=0.0
    )
    result = tl.sum(acc * weights[:, None], 0) / total
    tl.store(output + line * SIZE + column, result.to(output.dtype.element_ty))
