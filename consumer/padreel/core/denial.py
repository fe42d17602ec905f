"""A session whose rig is denied: it takes no more, and what of it is in no commit is dropped and counted."""

from __future__ import annotations

from collections.abc import Callable

from padreel.core.reference import Referenced
from padreel.core.segment import Segment
from padreel.model import CloseReason, DropSpan, Effect, Fate, SessionInfo


class Denial:
    """What `padreel.core.session.Session` does when its rig is denied."""

    info: SessionInfo | None
    segments: list[Segment]
    closing: CloseReason | None
    closed_at: int
    dropped: list[tuple[int, Fate]]
    reference: Referenced | None
    _emit: Callable[[Effect], None]
    _released: dict[Fate, int]

    def deny(self, info: SessionInfo, offset: int) -> None:
        """Close it at `offset`, whatever it waits for. No episode of it is committed any more."""
        self.info = info
        for segment in self.segments:
            if not segment.by_reference:
                self._emit(DropSpan(segment.span))
            for fate, count in ((Fate.IDLE, len(segment.idle)), (Fate.DENIED, segment.rows + segment.pending)):
                self._released[fate] = self._released.get(fate, 0) + count
        self.segments.clear()
        if self.reference is not None and not self.reference.is_done:
            self._drop_rows(self.reference)
        self.closing, self.closed_at = CloseReason.DENIED, offset

    def _drop_rows(self, reference: Referenced) -> None:
        """Rows whose file was not gone through yet, and the record that ended them."""
        self.dropped += [(offset, Fate.DENIED) for offset in reference.offsets_ahead()]
        ending = reference.ending
        if ending is not None and ending.offset is not None:
            self.dropped.append((ending.offset, Fate.RESTARTED if ending.is_restart else Fate.END))
        reference.is_done = True
