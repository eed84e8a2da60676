"""The random stream and the generators, against published vectors and the official inputs."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_ahc.ahc039 import Fishing
from ttd_ahc.ahc058 import Apples
from ttd_ahc.fish import POINTS, SIDE, draw_points
from ttd_ahc.normal import fast_normals, normal
from ttd_ahc.stream import Stream, chacha20_blocks, key_words, round_half_away, weight_scale

#: SHA-256 over the SHA-256 of the inputs of seeds 0-49, then five seeds that use all 64 bits.
PINNED = {
    "ahc039": "5b542ae613e3bba17ca6c05a54fb06f3b360ddbf7f1808d0078034134af5547a",
    "ahc058": "97e7f29e96f0d155d0db26f4f9338eb458b97a1c114440ecce8c459fc36e533a",
}
WIDE_SEEDS = (2**64 - 1, 2**63, 2**32, 0x9E3779B97F4A7C15, 12345678901234567890)


def test_the_block_function_gives_the_vectors_of_rfc_8439_with_a_zero_key() -> None:
    # RFC 8439, appendix A.1, test vectors 1 and 2: zero key, zero nonce, counters 0 and 1.
    words = chacha20_blocks([0] * 8, 0, 2).astype("<u4").tobytes().hex()
    assert words.startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    assert words[128:].startswith("9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed")


def test_the_counter_carries_into_its_second_word() -> None:
    low, high = chacha20_blocks([1] * 8, 2**32 - 1, 2).reshape(2, 16)
    assert low.tolist() == chacha20_blocks([1] * 8, 2**32 - 1, 1).tolist()
    assert high.tolist() == chacha20_blocks([1] * 8, 2**32, 1).tolist()
    assert high.tolist() != chacha20_blocks([1] * 8, 0, 1).tolist()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_beyond_64_bits_is_refused(seed) -> None:
    with pytest.raises(ValueError, match=r"is not in 0\.\.2\^64-1"):
        key_words(seed)


@given(seed=st.integers(0, 2**64 - 1), size=st.integers(1, 5))
def test_blocks_computed_in_other_portions_are_the_same(seed, size) -> None:
    one, other = Stream(seed, block_count=size), Stream(seed)
    assert [one.u32() for _ in range(200)] == [other.u32() for _ in range(200)]


@given(seed=st.integers(0, 2**64 - 1), low=st.integers(0, 10**5), span=st.integers(1, 2**31))
def test_draws_stay_where_they_belong(seed, low, span) -> None:
    stream = Stream(seed)
    assert low <= stream.integer(low, low + span - 1) < low + span
    assert 0 <= stream.uniform() < 1
    assert low <= stream.between(low, low + span) <= low + span
    assert weight_scale(float(span)) * (1 - 2**-52) < span


@given(seed=st.integers(0, 2**64 - 1))
def test_many_normals_at_once_are_those_drawn_one_by_one(seed) -> None:
    stream = Stream(seed)
    values, slow = fast_normals(stream.long_words(40))
    for value, odd in zip(values.tolist(), slow.tolist(), strict=True):
        before = stream.position
        drawn = normal(stream)
        if not odd:
            assert drawn == value
            assert stream.position == before + 2
        stream.position = before + 2


def test_normal_numbers_are_normal_also_in_their_tail() -> None:
    stream = Stream(7, block_count=1024)
    drawn = np.array([normal(stream) for _ in range(40_000)])
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    for limit, share in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
        expected = share * len(drawn)
        assert abs((np.abs(drawn) > limit).sum() - expected) < 5 * expected**0.5


def test_halves_round_away_from_zero() -> None:
    values = (0.5, 1.5, 2.5, -0.5, -2.5, 0.49999999999999994, 7.0)
    assert [round_half_away(value) for value in values] == [1, 2, 3, -1, -3, 0, 7]


@given(seed=st.integers(0, 2**64 - 1))
def test_fish_are_distinct_and_in_the_sea(seed) -> None:
    points = draw_points(seed)
    assert points.shape == (2 * POINTS, 2)
    assert points.min() >= 0
    assert points.max() <= SIDE
    assert len(np.unique(points, axis=0)) == len(points)


@pytest.mark.parametrize("contest", [Fishing, Apples], ids=lambda each: each.name)
def test_inputs_never_change(contest) -> None:
    whole = hashlib.sha256()
    for seed in (*range(50), *WIDE_SEEDS):
        whole.update(hashlib.sha256(contest.make_case(seed).text.encode()).digest())
    assert whole.hexdigest() == PINNED[contest.name]


@pytest.mark.parametrize("contest", [Fishing, Apples], ids=lambda each: each.name)
def test_a_hundred_official_inputs_match_by_hash(contest, official) -> None:
    known = json.loads((official / f"{contest.name}_input_sha256.json").read_text())
    assert len(known) == 100
    for seed, digest in known.items():
        text = contest.make_case(int(seed)).text
        assert hashlib.sha256(text.encode()).hexdigest() == digest, f"seed {seed}"


@pytest.mark.parametrize("contest", [Fishing, Apples], ids=lambda each: each.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_whole_official_inputs_match_byte_for_byte(contest, seed, official) -> None:
    assert contest.make_case(seed).text == (official / f"{contest.name}_seed{seed}.txt").read_text()
