"""Triton kernels of decode attention over pages. Launched by :mod:`.device`."""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _read_page(
    query, key_page, value_page, seen, scale, top, total, sums, SIZE: tl.constexpr, PAGE: tl.constexpr
):
    """Take one page into the running softmax; ``seen`` of its tokens count."""
    token = tl.arange(0, PAGE)
    place = token[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    counts = (token < seen)[:, None]
    key = tl.load(key_page + place, mask=counts, other=0.0)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    scores = tl.where((token < seen)[None, :], scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1))
    weights = tl.exp2(scores - new_top[:, None])
    fade = tl.exp2(top - new_top)
    value = tl.load(value_page + place, mask=counts, other=0.0)
    sums = sums * fade[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
    return new_top, total * fade + tl.sum(weights, 1), sums


@triton.jit
def prompt_part(
    qkv,
    keys,
    values,
    tile_rows,
    tile_lengths,
    tile_pages,
    sums_out,
    tops_out,
    totals_out,
    scale,
    row_stride,
    page_stride,
    table_stride,
    tile_stride,
    slots,
    splits,
    HEADS: tl.constexpr,
    SHARE: tl.constexpr,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a tile, key-value head and split: the queries of ROWS rows against part of a prompt."""
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    line = tl.arange(0, BLOCK)
    row = tl.load(tile_rows + tile * tile_stride + line // SHARE, mask=line // SHARE < ROWS, other=-1)
    row = row.to(tl.int64)
    used = row >= 0
    head = kv_head * SHARE + line % SHARE
    place = tl.arange(0, SIZE)
    query = tl.load(
        qkv + (row * row_stride + head * SIZE)[:, None] + place[None, :], mask=used[:, None], other=0.0
    )
    length = tl.load(tile_lengths + tile)
    pages = tl.cdiv(length, PAGE)
    share = tl.cdiv(pages, splits)
    # A finite floor: an empty split, or a prompt of one token, then weighs nothing and never makes a NaN.
    top = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK, SIZE], tl.float32)
    for index in range(split * share, tl.minimum(split * share + share, pages)):
        page = tl.load(tile_pages + tile * table_stride + index).to(tl.int64)
        start = page * page_stride + kv_head * PAGE * SIZE
        top, total, sums = _read_page(
            query, keys + start, values + start, length - index * PAGE, scale, top, total, sums, SIZE, PAGE
        )
    slot = (row * HEADS + head) * slots + split
    tl.store(tops_out + slot, top, mask=used)
    tl.store(totals_out + slot, total, mask=used)
    tl.store(sums_out + slot[:, None] * SIZE + place[None, :], sums, mask=used[:, None])


@triton.jit
def own_part(
    qkv,
    keys,
    values,
    lengths,
    own_pages,
    sums_io,
    tops_io,
    totals_io,
    output,
    scale,
    row_stride,
    page_stride,
    table_stride,
    slots,
    splits,
    PROMPT_SPLITS: tl.constexpr,
    HEADS: tl.constexpr,
    SHARE: tl.constexpr,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK: tl.constexpr,
    FINISH: tl.constexpr,
):
    """One program a row, key-value head and split. With FINISH it adds the prompt's part and divides."""
    row, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    line = tl.arange(0, BLOCK)
    used = line < SHARE
    head = kv_head * SHARE + line
    place = tl.arange(0, SIZE)
    query = tl.load(
        qkv + row * row_stride + (head * SIZE)[:, None] + place[None, :], mask=used[:, None], other=0.0
    )
    length = tl.load(lengths + row) + 1
    pages = tl.cdiv(length, PAGE)
    share = tl.cdiv(pages, splits)
    slot = (row * HEADS + head) * slots
    top = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK, SIZE], tl.float32)
    for index in range(split * share, tl.minimum(split * share + share, pages)):
        page = tl.load(own_pages + row * table_stride + index).to(tl.int64)
        start = page * page_stride + kv_head * PAGE * SIZE
        top, total, sums = _read_page(
            query, keys + start, values + start, length - index * PAGE, scale, top, total, sums, SIZE, PAGE
        )
    if FINISH:
        for part in tl.static_range(PROMPT_SPLITS):
            other_top = tl.load(tops_io + slot + part, mask=used, other=-1.0e30)
            other_total = tl.load(totals_io + slot + part, mask=used, other=0.0)
            other = tl.load(
                sums_io + (slot + part)[:, None] * SIZE + place[None, :], mask=used[:, None], other=0.0
            )
            new_top = tl.maximum(top, other_top)
            fade, other_fade = tl.exp2(top - new_top), tl.exp2(other_top - new_top)
            sums = sums * fade[:, None] + other * other_fade[:, None]
            total = total * fade + other_total * other_fade
            top = new_top
        result = (sums / total[:, None]).to(output.dtype.element_ty)
        tl.store(
            output + row * HEADS * SIZE + (head * SIZE)[:, None] + place[None, :], result, mask=used[:, None]
        )
    else:
        slot += PROMPT_SPLITS + split
        tl.store(tops_io + slot, top, mask=used)
        tl.store(totals_io + slot, total, mask=used)
        tl.store(sums_io + slot[:, None] * SIZE + place[None, :], sums, mask=used[:, None])


@triton.jit
def join(
    sums_in, tops_in, totals_in, output, slots, HEADS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr
):
    """One program a row and head: all parts over one normaliser."""
    line = (tl.program_id(0) * HEADS + tl.program_id(1)).to(tl.int64)
    part = tl.arange(0, BLOCK)
    used = part < slots
    place = tl.arange(0, SIZE)
    tops = tl.load(tops_in + line * slots + part, mask=used, other=-1.0e30)
    weights = tl.exp2(tops - tl.max(tops, 0))
    total = tl.sum(weights * tl.load(totals_in + line * slots + part, mask=used, other=0.0), 0)
    sums = tl.load(
        sums_in + (line * slots + part)[:, None] * SIZE + place[None, :], mask=used[:, None], other=0.0
    )
    result = tl.sum(sums * weights[:, None], 0) / total
    tl.store(output + line * SIZE + place, result.to(output.dtype.element_ty))
