"""Which variants are asked for, and which are looked at later."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.exports.augment.jobs import MAX_VARIANTS, Job, plan_jobs, sampled, seed_of, share_of

PROFILES = st.lists(st.sampled_from(["lighting", "texture", "sensor", "weather"]), min_size=1, max_size=4, unique=True)
SHARES = st.fractions(0, 1, max_denominator=100)


@given(
    episodes=st.lists(st.integers(0, 10_000), max_size=8, unique=True),
    variants=st.integers(1, 12),
    more=st.integers(0, 5),
    base=st.integers(0, 2**31),
    profiles=PROFILES,
)
def test_every_variant_has_a_seed_of_its_own_that_more_variants_leave(
    episodes: list[int], variants: int, more: int, base: int, profiles: list[str]
) -> None:
    jobs = plan_jobs(episodes, variants, base, profiles)
    assert [(job.episode, job.variant) for job in jobs] == [(e, v) for e in episodes for v in range(variants)]
    assert [job.number for job in jobs] == list(range(len(jobs)))
    for name in ("seed", "id", "request", "returned"):
        assert len({getattr(job, name) for job in jobs}) == len(jobs), name
    assert all(job.profile == profiles[job.variant % len(profiles)] for job in jobs)
    again = {(job.episode, job.variant): job.seed for job in plan_jobs(episodes, variants + more, base, profiles)}
    assert all(again[job.episode, job.variant] == job.seed for job in jobs)


def test_seeds_never_meet() -> None:
    assert seed_of(7, 0, 0) == 7
    assert seed_of(7, 3, MAX_VARIANTS - 1) + 1 == seed_of(7, 4, 0)
    for variant in (-1, MAX_VARIANTS):
        with pytest.raises(ValueError, match=f"variant {variant}, expected 0 to 999"):
            seed_of(0, 0, variant)


def stratum(job: Job) -> tuple[int, str]:
    """Tasks by episode, three of them."""
    return job.episode % 3, job.profile


@given(
    episodes=st.integers(0, 30),
    variants=st.integers(1, 9),
    profiles=PROFILES,
    share=SHARES,
    larger=SHARES,
    seed=st.integers(),
)
def test_the_share_is_that_of_every_stratum(
    episodes: int, variants: int, profiles: list[str], share: Fraction, larger: Fraction, seed: int
) -> None:
    jobs = plan_jobs(range(episodes), variants, 0, profiles)
    chosen = sampled(jobs, stratum, share, seed)
    assert [job.number for job in chosen] == sorted(job.number for job in chosen)
    counts = Counter(map(stratum, chosen))
    for one, count in Counter(map(stratum, jobs)).items():
        assert counts[one] == math.ceil(share * count)
    assert sampled(jobs, stratum, share, seed) == chosen
    low, high = sorted((share, larger))
    assert set(sampled(jobs, stratum, low, seed)) <= set(sampled(jobs, stratum, high, seed))
    assert sampled(jobs, stratum, Fraction(1), seed) == jobs
    assert sampled(jobs, stratum, Fraction(0), seed) == []


@given(episodes=st.integers(1, 30), share=SHARES, seed=st.integers())
def test_another_stratum_changes_nothing(episodes: int, share: Fraction, seed: int) -> None:
    jobs = plan_jobs(range(episodes), 3, 0, ["a", "b", "c"])
    first = [job for job in jobs if stratum(job) == (0, "a")]
    assert [job for job in sampled(jobs, stratum, share, seed) if job in first] == sampled(first, stratum, share, seed)


def test_another_seed_chooses_others() -> None:
    jobs = plan_jobs(range(40), 3, 0, ["a"])
    chosen = [frozenset(sampled(jobs, lambda job: 0, Fraction(1, 4), seed)) for seed in range(5)]
    assert len(set(chosen)) == 5


def test_a_tenth_of_ten_is_one() -> None:
    """As a float 0.1 is more than a tenth, and would make two of them."""
    jobs = plan_jobs(range(10), 1, 0, ["a"])
    assert len(sampled(jobs, lambda job: 0, share_of(0.1), 0)) == 1
    assert len(sampled(jobs, lambda job: 0, share_of(0.11), 0)) == 2
