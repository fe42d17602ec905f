"""A session by reference, from the session's side: rows are kept until its file can be gone through."""

from __future__ import annotations

from padreel.core.reference import Ending, MediaScan, Referenced, Wanted
from padreel.core.rules import FATE_ONCE_CLOSED, Rules
from padreel.core.segment import Received, Segment
from padreel.model import CloseReason, EndReason, Fate, Frame, FrameEnd, SessionInfo


class ByReference:
    """What `padreel.core.session.Session` does with rows whose pictures lie in a file."""

    key: str
    info: SessionInfo | None
    segments: list[Segment]
    closing: CloseReason | None
    detail: str
    closed_at: int
    resume: int
    last_frame: int | None
    dropped: list[tuple[int, Fate]]
    reference: Referenced | None
    _rules: Rules
    _sequence: int
    _received: Received

    def _frame(self, frame: Frame, now_ns: int) -> None:
        raise NotImplementedError

    def _is_other_game(self, frame: Frame) -> bool:
        raise NotImplementedError

    def _cut(self, reason: EndReason) -> None:
        raise NotImplementedError

    def _close(self, why: CloseReason, cut: EndReason, offset: int, fate: Fate) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError

    @property
    def _fate_when_closed(self) -> Fate:
        """What becomes of a frame of a session that takes no more."""
        return Fate.STALE if self.closing is None else FATE_ONCE_CLOSED.get(self.closing, Fate.STALE)

    # ---- rows

    def _by_reference(self, item: Frame | FrameEnd, now_ns: int) -> None:
        """Take a row, or what ends them."""
        if self.reference is None:
            if self.segments:  # it sends its pictures: a row without one is none of its frames
                self.dropped.append((item.offset, Fate.REJECTED))
                return
            self.reference = Referenced(self._sequence, self._received.time_ns)
        reference = self.reference
        if isinstance(item, FrameEnd):
            if reference.ending is None:
                reference.end(Ending(now_ns, False, item.offset, item.frame_count), item.media_uri)
            else:
                self.dropped.append((item.offset, Fate.STALE))
        elif item.unit:
            self.dropped.append((item.offset, Fate.REJECTED))
        elif self._is_other_game(item):
            if reference.scan is None:  # else they are dropped as they are gone through
                self._give_up(reference, Fate.IGNORED)
        else:
            fate = reference.row(item, item.session.media_uri if item.session else "", now_ns)
            # The record of a restart is dropped when what came before it has been gone through.
            if fate is not None and (reference.ending is None or reference.ending.offset != item.offset):
                self.dropped.append((item.offset, fate))

    def _silent_by_reference(self, reference: Referenced, now_ns: int) -> None:
        """Rows have stopped without an END: after the timeout the file is taken as it is."""
        if reference.silent_since_ns is None:
            reference.silent_since_ns = now_ns
        if reference.ending is None and now_ns - reference.silent_since_ns >= self._rules.media_timeout_ns:
            reference.end(Ending(now_ns))

    # ---- the file

    @property
    def waits_for_file(self) -> bool:
        """Whether its rows have ended and its file has not been gone through."""
        return self.reference is not None and self.reference.ending is not None and not self.reference.is_done

    def wanted(self, now_ns: int) -> Wanted | None:
        """The file to look through now."""
        return self.reference.wanted(self.key, now_ns) if self.reference and self.closing is None else None

    def media_found(self, scan: MediaScan) -> None:
        """The file was looked through."""
        if self.reference is not None and self.reference.ending is not None and self.closing is None:
            self.reference.scan = scan

    def media_missed(self, detail: str, is_final: bool, now_ns: int) -> None:
        """The file cannot be used; the session is rejected if that is final or has lasted too long."""
        reference = self.reference
        if reference is None or reference.ending is None or reference.scan is not None or self.closing is not None:
            return
        if reference.missed(now_ns, self._rules.media_timeout_ns) or is_final:
            self._give_up(reference, Fate.REJECTED)
            left = reference.offsets_left()
            self.detail = detail
            self.closing, self.closed_at = CloseReason.MEDIA, left[0] if left else self.resume

    def _give_up(self, reference: Referenced, fate: Fate) -> None:
        """Its file is not needed any more: drop all rows, and what ended them."""
        self.dropped += [(offset, fate) for offset in reference.offsets_left()]
        if reference.ending is not None and reference.ending.offset is not None:
            self.dropped.append((reference.ending.offset, Fate.END))
        reference.is_done = True

    def expand(self, most: int, now_ns: int) -> None:
        """Go through the packets of its file, `most` of them and on to the next IDR."""
        reference = self.reference
        if reference is None or reference.scan is None or reference.is_done:
            return
        for frame in reference.frames(self.key, self.info, most):
            if self.closing is None:
                self._frame(frame, now_ns)
            else:
                self.dropped.append((frame.offset, self._fate_when_closed))
        if reference.is_gone_through:
            reference.is_done = True
            self._end_reference(reference)
        self.settle()

    def _end_reference(self, reference: Referenced) -> None:
        ending = reference.ending
        assert ending is not None
        if self.closing is not None:
            if ending.offset is not None:
                self.dropped.append((ending.offset, Fate.STALE))
        elif ending.offset is None:
            self.closing, self.closed_at = CloseReason.END, self.last_frame or 0
            self._cut(EndReason.SILENCE)
        elif ending.is_restart:
            self.detail = "a sequence number again with a later time: the rig restarted"
            self._close(CloseReason.RESTARTED, EndReason.RESTARTED, ending.offset, Fate.RESTARTED)
        else:
            lost = ending.frame_count is not None and ending.frame_count > self._sequence
            self._close(CloseReason.END, EndReason.GAP if lost else EndReason.END, ending.offset, Fate.END)
