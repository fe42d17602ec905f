"""What augmenting video by a remote model costs, from what a pilot run of it took. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pilot:
    """A run that was measured: so many seconds of video came out of it, in so many seconds, on so many GPUs."""

    output_seconds: float
    wall_seconds: float
    num_gpus: int


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What so many seconds of recordings, each varied so often, would take.

    `gpus_to_keep_up` are those that make in a day what is asked for, which matters if that is a day's recordings.
    """

    input_seconds: float
    variants_per_episode: int
    output_seconds: float
    output_seconds_per_gpu_second: float
    gpu_hours: float
    num_gpus: int
    wall_hours: float
    gpus_to_keep_up: float


def augmentation_of(pilot: Pilot, input_seconds: float, variants_per_episode: int, num_gpus: int) -> Augmentation:
    """Scale the pilot up, linearly in seconds of video and in GPUs. Raises ValueError for what is not above 0."""
    for name, value in (
        ("seconds of video out of the pilot", pilot.output_seconds),
        ("seconds that the pilot took", pilot.wall_seconds),
        ("GPUs of the pilot", pilot.num_gpus),
        ("seconds to augment", input_seconds),
        ("variants of an episode", variants_per_episode),
        ("GPUs", num_gpus),
    ):
        if not value > 0:
            raise ValueError(f"{value} {name}, expected more than 0")
    rate = pilot.output_seconds / (pilot.wall_seconds * pilot.num_gpus)
    output_seconds = input_seconds * variants_per_episode
    gpu_hours = output_seconds / rate / 3600
    return Augmentation(
        input_seconds=input_seconds,
        variants_per_episode=variants_per_episode,
        output_seconds=output_seconds,
        output_seconds_per_gpu_second=rate,
        gpu_hours=gpu_hours,
        num_gpus=num_gpus,
        wall_hours=gpu_hours / num_gpus,
        gpus_to_keep_up=gpu_hours / 24,
    )
