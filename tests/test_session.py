"""What an episode carries besides its rows, told by one small session."""

from __future__ import annotations

import pytest

from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.model import Commit, EpisodeDraft, Frame, FrameEnd, PadEnd, PadEvent, PartitionState, Schema, Stream

KEY = "one@1"
STREAM = Stream("h264", 64, 48, 30, b"", 1, 1, 1, 1)


def episode(frame_times: list[int], event_times: list[int]) -> EpisodeDraft:
    """The one episode of a session with these times."""
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(), PartitionState(0, 0))
    frames = [
        Frame(i, KEY, i, i, time_ns, i == 0, b"unit", STREAM if i == 0 else None, None)
        for i, time_ns in enumerate(frame_times)
    ]
    events = [PadEvent(i, KEY, time_ns, str(time_ns).encode(), True) for i, time_ns in enumerate(event_times)]
    pipeline.read_frames([*frames, FrameEnd(len(frames), KEY, len(frames))], len(frames) + 1, 0)
    pipeline.read_pads([*events, PadEnd(len(events), KEY)], len(events) + 1, 0)
    (commit,) = (effect for effect in pipeline.effects() if isinstance(effect, Commit))
    assert commit.episode is not None
    return commit.episode


@pytest.mark.parametrize(
    ("event_times", "kept", "pairing"),
    [
        ([5, 15, 17, 25, 35], [5, 15, 17, 25], (0, 2, 3)),  # from the one in force at the first row on
        ([5, 8, 15], [8, 15], (0, 1, 1)),
        ([12, 17, 25], [12, 17, 25], (-1, 1, 2)),  # none in force at the first row: from the first that came
        ([40], [], (-1, -1, -1)),
        ([], [], (-1, -1, -1)),
    ],
)
def test_an_episode_carries_its_events_without_a_hole(
    event_times: list[int], kept: list[int], pairing: tuple[int, ...]
) -> None:
    found = episode([10, 20, 30], event_times)
    assert (list(found.event_ns), found.pairing) == (kept, pairing)
    assert [int(payload) for payload in found.events] == kept
