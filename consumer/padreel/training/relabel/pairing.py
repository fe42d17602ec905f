"""Which EVENT each row of an episode was paired with, found again from what the dataset keeps. Pure.

A row has its time since the session's first frame, and the age of its EVENT in float32; an EVENT has its time by the
rig's clock. The session's first frame on that clock is not kept, so it is searched for: one that puts an EVENT at every
row's time less its age. The pairing is not made again by comparing times: a row that was decided by force, or before a
late EVENT came, keeps what it had.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NO_EVENT: Final = -1
_CANDIDATES: Final = 64  # EVENTs before the first paired row that are tried for it
_ROUNDING: Final = 2.0**-22  # of an age in float32, and of sums in float64

Indices = NDArray[np.int64]


def recover_pairing(
    time_ns: NDArray[np.int64],
    age: NDArray[np.float32],
    event_ns: NDArray[np.int64],
    row_state: NDArray[np.float32],
    event_state: NDArray[np.float32],
) -> Indices | None:
    """The index into `event_ns` of each row's EVENT, -1 where it had none, (rows,); None where nothing fits.

    `event_ns` is ascending and begins with the EVENT of the first row, if that has one. `row_state` (rows, slots) is
    what the rows show of their EVENTs, `event_state` (events, slots) what EVENTs would show: they have to agree. Where
    several EVENTs have one time, the last of those is taken that agrees.
    """
    pairing = np.full(len(time_ns), NO_EVENT, np.int64)
    rows = np.flatnonzero(age >= 0)
    if not len(rows):
        return pairing
    if not len(event_ns):
        return None
    # Relative to the first EVENT, so that float64 has nanoseconds to spare.
    events = (event_ns - event_ns[0]).astype(np.float64)
    ages = age[rows].astype(np.float64) * 1e9
    moments = time_ns[rows].astype(np.float64) - ages  # of the EVENTs, since the session's first frame
    tolerance = ages * _ROUNDING + ages[0] * _ROUNDING + 2
    for first in range(1 if rows[0] == 0 else min(len(events), _CANDIDATES)):
        found = _nearest(events, moments - moments[0] + events[first], tolerance)
        if found is None:
            continue
        agreed = _agreeing(event_ns, found, row_state[rows], event_state)
        if agreed is not None:
            pairing[rows] = agreed
            return pairing
    return None


def _nearest(events: NDArray[Any], wanted: NDArray[Any], tolerance: NDArray[Any]) -> Indices | None:
    """The last EVENT at each wanted time, None where one has none."""
    right = np.clip(np.searchsorted(events, wanted), 1, max(1, len(events) - 1))
    left = right - 1
    right = np.minimum(right, len(events) - 1)
    nearer = np.where(np.abs(events[left] - wanted) <= np.abs(events[right] - wanted), left, right)
    if (np.abs(events[nearer] - wanted) > tolerance).any():
        return None
    last: Indices = np.searchsorted(events, events[nearer], side="right").astype(np.int64) - 1
    return last


def _agreeing(
    event_ns: NDArray[np.int64], found: Indices, row_state: NDArray[np.float32], event_state: NDArray[np.float32]
) -> Indices | None:
    """The same, but of EVENTs of one time the last that the row agrees with; None where it agrees with none."""
    chosen = found.copy()
    for row in np.flatnonzero((event_state[found] != row_state).any(axis=1)):
        index = int(found[row])
        while index >= 0 and event_ns[index] == event_ns[found[row]]:
            if np.array_equal(event_state[index], row_state[row]):
                break
            index -= 1
        else:
            return None
        chosen[row] = index
    return chosen
