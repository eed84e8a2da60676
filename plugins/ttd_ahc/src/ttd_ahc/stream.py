"""The random stream of the contests' input generators: ChaCha with 20 rounds, and the draws made from it.

The official generators are written with Rust's ``rand`` 0.8.5 and ``rand_chacha`` 0.3.1; every convention
below (how a seed becomes a key, how words become numbers, which draws are thrown away) is theirs, so the same
seed gives the same input to the last byte. The block function is that of RFC 8439, with a block counter of 64
bits and no nonce. Blocks are computed by numpy, many at once; draws are plain Python.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
LongWords = npt.NDArray[np.uint64]

_MASK32 = (1 << 32) - 1
_MASK64 = (1 << 64) - 1
_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_WORDS = 16
#: The quarter rounds of a double round, four at once: the columns, then the diagonals.
_COLUMNS = ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15])
_DIAGONALS = ([0, 1, 2, 3], [5, 6, 7, 4], [10, 11, 8, 9], [15, 12, 13, 14])
#: The largest value of a float in [0, 1) made of 52 random bits.
LARGEST_UNIT = 1.0 - 2.0**-52


def key_words(seed: int) -> list[int]:
    """The eight 32-bit words of the 256-bit key that a 64-bit seed stands for: a PCG32 stream.

    :raises ValueError: when the seed is no unsigned 64-bit number.
    """
    if not 0 <= seed <= _MASK64:
        raise ValueError(f"seed {seed} is not in 0..2^64-1")
    words = []
    state = seed
    for _ in range(8):
        state = (state * 6364136223846793005 + 11634580027462260723) & _MASK64
        mixed = (((state >> 18) ^ state) >> 27) & _MASK32
        turn = state >> 59
        words.append((mixed >> turn | mixed << (-turn & 31)) & _MASK32)
    return words


def _rotate(words: Words, bits: int) -> Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))


def chacha20_blocks(key: list[int], first: int, count: int) -> Words:
    """The output of consecutive ChaCha20 blocks.

    :param key: eight 32-bit words.
    :param first: number of the first block.
    :param count: how many blocks.
    :return: uint32 [count * 16].
    """
    counter = np.arange(first, first + count, dtype=np.uint64)
    start = np.zeros((_WORDS, count), np.uint32)
    start[:4] = np.array(_CONSTANTS, np.uint32)[:, None]
    start[4:12] = np.array(key, np.uint32)[:, None]
    start[12] = counter & np.uint64(_MASK32)
    start[13] = counter >> np.uint64(32)
    state = start.copy()
    for _ in range(10):
        for rows in (_COLUMNS, _DIAGONALS):
            a, b, c, d = (state[row] for row in rows)
            a += b
            d = _rotate(d ^ a, 16)
            c += d
            b = _rotate(b ^ c, 12)
            a += b
            d = _rotate(d ^ a, 8)
            c += d
            b = _rotate(b ^ c, 7)
            for row, values in zip(rows, (a, b, c, d), strict=True):
                state[row] = values
    return np.ascontiguousarray((state + start).T).reshape(-1)


class Stream:
    """Words in order, and the draws of the generators.

    :param seed: unsigned 64-bit.
    :param block_count: blocks computed at once; what is left over is kept.
    :ivar position: index of the next word.
    """

    def __init__(self, seed: int, block_count: int = 16) -> None:
        self._key = key_words(seed)
        self._block_count = block_count
        self._words: Words = np.zeros(0, np.uint32)
        self._list: list[int] = []
        self.position = 0

    def _reach(self, end: int) -> None:
        while len(self._words) < end:
            have = len(self._words) // _WORDS
            more = chacha20_blocks(self._key, have, max(self._block_count, have))
            self._words = np.concatenate([self._words, more])
            self._list += more.tolist()

    def long_words(self, count: int) -> LongWords:
        """The next ``count`` 64-bit draws, without using them up: uint64 [count]."""
        end = self.position + 2 * count
        self._reach(end)
        pairs = self._words[self.position : end].astype(np.uint64)
        return pairs[::2] | pairs[1::2] << np.uint64(32)

    def u32(self) -> int:
        """The next word."""
        self._reach(self.position + 1)
        self.position += 1
        return self._list[self.position - 1]

    def u64(self) -> int:
        """Two words, the low half first."""
        low = self.u32()
        return low | self.u32() << 32

    def uniform(self) -> float:
        """A float in [0, 1) of 53 random bits (``rand``'s ``Standard``)."""
        return (self.u64() >> 11) * 2.0**-53

    def unit(self) -> float:
        """A float in [0, 1) of 52 random bits (``rand``'s ``UniformFloat`` before it is scaled)."""
        return (self.u64() >> 12) * 2.0**-52

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included, by widening multiplication and rejection."""
        span = high - low + 1
        zone = (span << (32 - span.bit_length())) - 1
        while True:
            product = self.u32() * span
            if product & _MASK32 <= zone:
                return low + (product >> 32)

    def between(self, low: float, high: float) -> float:
        """A float in [low, high], both ends included."""
        scale = (high - low) / LARGEST_UNIT
        while scale * LARGEST_UNIT + low > high:
            scale = math.nextafter(scale, -math.inf)
        return self.unit() * scale + low


def weight_scale(total: float) -> float:
    """What a float in [0, 1) is multiplied by to give one in [0, total), ``total`` never reached."""
    scale = total
    while scale * LARGEST_UNIT >= total:
        scale = math.nextafter(scale, -math.inf)
    return scale


def round_half_away(value: float) -> int:
    """The nearest integer, halves away from zero."""
    whole = math.floor(abs(value))
    nearest = whole + (abs(value) - whole >= 0.5)
    return nearest if value >= 0 else -nearest
