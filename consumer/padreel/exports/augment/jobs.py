"""Which variants of which episodes a remote video model is asked for, and which of them are looked at later. Pure."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

MAX_VARIANTS: Final = 1000  # of an episode, so that seeds never meet


@dataclass(frozen=True, slots=True)
class Job:
    """One variant of one episode. Jobs and episodes count from 0; the profile is a word for what is to be varied."""

    number: int
    episode: int
    variant: int
    profile: str
    seed: int

    @property
    def id(self) -> str:
        return f"job_{self.number:06d}"

    @property
    def request(self) -> str:
        """Its file in the bundle."""
        return f"requests/{self.id}.json"

    @property
    def returned(self) -> str:
        """What the file that comes back is called."""
        return f"{episode_name(self.episode)}_variant_{self.variant:03d}.mp4"


def episode_name(episode: int) -> str:
    """What an episode's files are called, without what follows."""
    return f"episode_{episode:06d}"


def seed_of(base_seed: int, episode: int, variant: int) -> int:
    """A seed of its own for each variant of each episode; asking for more variants or episodes changes none of them.

    Raises ValueError where the variant is not below `MAX_VARIANTS`.
    """
    if not 0 <= variant < MAX_VARIANTS:
        raise ValueError(f"variant {variant}, expected 0 to {MAX_VARIANTS - 1}")
    return base_seed + episode * MAX_VARIANTS + variant


def plan_jobs(episodes: Iterable[int], variants: int, base_seed: int, profiles: Sequence[str]) -> list[Job]:
    """`variants` jobs for each episode, in their order; variant v has the profile v, in turn."""
    found: list[Job] = []
    for episode in episodes:
        for variant in range(variants):
            profile, seed = profiles[variant % len(profiles)], seed_of(base_seed, episode, variant)
            found.append(Job(len(found), episode, variant, profile, seed))
    return found


def share_of(ratio: float) -> Fraction:
    """A ratio as it is written in decimal: 0.1 is a tenth, not what the nearest float is."""
    return Fraction(repr(ratio))


def sampled(jobs: Sequence[Job], stratum: Callable[[Job], Hashable], share: Fraction, seed: int) -> list[Job]:
    """A share of the jobs of every stratum, in the order given: of n jobs the whole number at or above share * n.

    Which ones depends on the seed and on nothing but their own episode and variant, so a larger share has all that a
    smaller one has, and another stratum changes nothing.
    """
    strata: dict[Hashable, list[Job]] = defaultdict(list)
    for job in jobs:
        strata[stratum(job)].append(job)
    chosen: set[int] = set()
    for inside in strata.values():
        count = math.ceil(share * len(inside))
        chosen |= {job.number for job in sorted(inside, key=lambda job: _draw(seed, job))[:count]}
    return [job for job in jobs if job.number in chosen]


def _draw(seed: int, job: Job) -> bytes:
    return hashlib.sha256(f"{seed}/{job.episode}/{job.variant}".encode()).digest()
