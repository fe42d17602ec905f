"""The key of a Kafka record: `<session>@<run>`, the same bytes on both topics."""

from __future__ import annotations

import re

_SESSION = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RUN = re.compile(r"[0-9a-f]{1,16}")


def session_key(session: str, run: str) -> bytes:
    """Return the key of a session's records.

    Raises ValueError where `session` is not 1-128 of `A-Z a-z 0-9 . _ -` (nor `.` or `..`), or `run` is not 1-16
    lower-case hexadecimal digits.
    """
    if not _SESSION.fullmatch(session) or session in {".", ".."}:
        raise ValueError(f"session name {session!r}: expected 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    if not _RUN.fullmatch(run):
        raise ValueError(f"run {run!r}: expected 1 to 16 lower-case hexadecimal digits")
    return f"{session}@{run}".encode("ascii")
