"""Triton kernels of decode attention over pages (split-KV flash attention). Launched by :mod:`.triton_ops`.

Softmax is computed piece by piece: of the keys seen so far a program keeps the largest score (``peak``), the
sum of exponentials over it (``total``), and the sum of values weighted by them (``acc``). Scores are in units
of log 2, so that ``exp2`` serves.

With ``WINDOW`` a query sees that many tokens, itself included; pages that nobody in a program sees are not
read. With ``SINKS`` a logit of each head's own takes part in the softmax, and has no value.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import math

import triton
import triton.language as tl

#: Logarithm of e to base 2.
LOG2_E: tl.constexpr = tl.constexpr(math.log2(math.e))


@triton.jit
def _add_page(
    query,
    key_page,
    value_page,
    length,
    first,
    scale,
    peak,
    total,
    acc,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """Add one page, of which ``length`` tokens count, to the running softmax.

    ``first`` is, with WINDOW, the first token of the page that each query sees.
    """
    token = tl.arange(0, PAGE)
    offset = token[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    counts = (token < length)[:, None]
    key = tl.load(key_page + offset, mask=counts, other=0.0)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    scores = tl.where((token < length)[None, :], scores, float("-inf"))
    if WINDOW > 0:
        scores = tl.where(token[None, :] >= first[:, None], scores, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.exp2(scores - new_peak[:, None])
    rescale = tl.exp2(peak - new_peak)
    value = tl.load(value_page + offset, mask=counts, other=0.0)
    acc = acc * rescale[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
    return new_peak, total * rescale + tl.sum(weights, 1), acc


@triton.jit
def _add_pages(
    query,
    keys,
    values,
    kv_head,
    page_table,
    page_stride,
    first,
    last,
    length,
    first_seen,
    scale,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """Peak, total and weighted sum over the pages ``first`` to ``last`` of a table, of ``length`` tokens."""
    # A finite floor: an empty split, or a prompt of one token, then weighs nothing and never makes a NaN.
    peak = tl.full([BLOCK], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, SIZE], tl.float32)
    for index in range(first, last):
        start = tl.load(page_table + index).to(tl.int64) * page_stride + kv_head * PAGE * SIZE
        peak, total, acc = _add_page(
            query,
            keys + start,
            values + start,
            length - index * PAGE,
            first_seen - index * PAGE,
            scale,
            peak,
            total,
            acc,
            SIZE,
            PAGE,
            WINDOW,
        )
    return peak, total, acc


@triton.jit
def _add_parts(peak, total, acc, stored, part, used, column, PARTS: tl.constexpr, SIZE: tl.constexpr):
    """The running softmax of some heads with what other programs stored of it, PARTS from ``part`` on."""
    peaks, totals, sums = stored
    for index in tl.static_range(PARTS):
        at = part + index
        other_peak = tl.load(peaks + at, mask=used, other=-1.0e30)
        other_total = tl.load(totals + at, mask=used, other=0.0)
        other_acc = tl.load(sums + at[:, None] * SIZE + column[None, :], mask=used[:, None], other=0.0)
        new_peak = tl.maximum(peak, other_peak)
        rescale, other_rescale = tl.exp2(peak - new_peak), tl.exp2(other_peak - new_peak)
        acc = acc * rescale[:, None] + other_acc * other_rescale[:, None]
        total = total * rescale + other_total * other_rescale
        peak = new_peak
    return peak, total, acc


@triton.jit
def _add_sinks(peak, total, acc, sinks, head, used, SINKS: tl.constexpr):
    """The running softmax of some heads with the logits that have no value, if there are any."""
    if SINKS:
        sink = tl.load(sinks + head, mask=used, other=0.0).to(tl.float32) * LOG2_E
        new_peak = tl.maximum(peak, sink)
        acc *= tl.exp2(peak - new_peak)[:, None]
        total = total * tl.exp2(peak - new_peak) + tl.exp2(sink - new_peak)
        peak = new_peak
    return peak, total, acc


@triton.jit
def attend_prompts(
    qkv,
    keys,
    values,
    own_lengths,
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
    WINDOW: tl.constexpr,
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
    first_seen = tl.zeros([BLOCK], tl.int32)
    first_page = 0
    if WINDOW > 0:
        first_seen += length + 1 - WINDOW + tl.load(own_lengths + row, mask=used, other=0)
        earliest = tl.min(tl.where(used, first_seen, length), 0)
        first_page = tl.minimum(tl.maximum(earliest, 0) // PAGE, pages)
    pages_per_split = tl.cdiv(pages - first_page, splits)
    first = first_page + split * pages_per_split
    peak, total, acc = _add_pages(
        query,
        keys,
        values,
        kv_head,
        tile_page_table + tile * page_table_stride,
        page_stride,
        first,
        tl.minimum(first + pages_per_split, pages),
        length,
        first_seen,
        scale,
        BLOCK,
        SIZE,
        PAGE,
        WINDOW,
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
    sinks,
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
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
):
    """One program a row, key-value head and split. With FINISH it adds the prompt's parts and divides."""
    row, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    line = tl.arange(0, BLOCK)
    used = line < HEADS_PER_KV
    head = kv_head * HEADS_PER_KV + line
    column = tl.arange(0, SIZE)
    at = qkv + row * row_stride + (head * SIZE)[:, None] + column[None, :]
    query = tl.load(at, mask=used[:, None], other=0.0)
    length = tl.load(own_lengths + row) + 1
    pages = tl.cdiv(length, PAGE)
    first_seen = tl.zeros([BLOCK], tl.int32) + (length - WINDOW)
    first_page = tl.maximum(length - WINDOW, 0) // PAGE if WINDOW > 0 else 0
    pages_per_split = tl.cdiv(pages - first_page, splits)
    part = (row * HEADS + head) * parts
    first = first_page + split * pages_per_split
    peak, total, acc = _add_pages(
        query,
        keys,
        values,
        kv_head,
        page_table + row * page_table_stride,
        page_stride,
        first,
        tl.minimum(first + pages_per_split, pages),
        length,
        first_seen,
        scale,
        BLOCK,
        SIZE,
        PAGE,
        WINDOW,
    )
    if FINISH:
        stored = (peak_io, total_io, acc_io)
        peak, total, acc = _add_parts(peak, total, acc, stored, part, used, column, PROMPT_SPLITS, SIZE)
        _, total, acc = _add_sinks(peak, total, acc, sinks, head, used, SINKS)
        at = output + row * HEADS * SIZE + (head * SIZE)[:, None] + column[None, :]
        tl.store(at, (acc / total[:, None]).to(output.dtype.element_ty), mask=used[:, None])
    else:
        part += PROMPT_SPLITS + split
        tl.store(peak_io + part, peak, mask=used)
        tl.store(total_io + part, total, mask=used)
        tl.store(acc_io + part[:, None] * SIZE + column[None, :], acc, mask=used[:, None])


@triton.jit
def combine_parts(
    acc_in,
    peak_in,
    total_in,
    sinks,
    output,
    parts,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    SINKS: tl.constexpr,
):
    """One program a row and head: the parts of its softmax combined and divided."""
    line = (tl.program_id(0) * HEADS + tl.program_id(1)).to(tl.int64)
    part = tl.arange(0, BLOCK)
    used = part < parts
    column = tl.arange(0, SIZE)
    peaks = tl.load(peak_in + line * parts + part, mask=used, other=-1.0e30)
    peak = tl.max(peaks, 0)
    if SINKS:
        sink = tl.load(sinks + tl.program_id(1)).to(tl.float32) * LOG2_E
        peak = tl.maximum(peak, sink)
    weights = tl.exp2(peaks - peak)
    total = tl.sum(weights * tl.load(total_in + line * parts + part, mask=used, other=0.0), 0)
    if SINKS:
        total += tl.exp2(sink - peak)
    acc = tl.load(
        acc_in + (line * parts + part)[:, None] * SIZE + column[None, :], mask=used[:, None], other=0.0
    )
    result = tl.sum(acc * weights[:, None], 0) / total
    tl.store(output + line * SIZE + column, result.to(output.dtype.element_ty))
