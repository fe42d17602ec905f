"""A broker in memory, from the publisher's side: `padreel_shim.producer.Publisher`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from padreel_shim.producer import PublishError, TopicKind


class FakePublisher:
    """Keeps what is sent. Acknowledges at once, or as `hold` says only when `acknowledge` is called."""

    def __init__(self, cluster_id: str = "cluster", *, hold: bool = False, fail_at: int | None = None) -> None:
        self.cluster_id = cluster_id
        self.hold = hold
        self.fail_at = fail_at
        self.sent: list[tuple[TopicKind, bytes, bytes]] = []
        self.pending: list[Callable[[], None]] = []
        self._drained = asyncio.Event()

    async def send(
        self, topic: TopicKind, key: bytes, value: bytes, acknowledged: Callable[[], None] | None = None
    ) -> None:
        if self.fail_at is not None and len(self.sent) >= self.fail_at:
            raise PublishError("broker fake: gone")
        self.sent.append((topic, key, value))
        if acknowledged is None:
            return
        if self.hold:
            self.pending.append(acknowledged)
        else:
            acknowledged()

    def acknowledge(self, count: int | None = None) -> None:
        """Acknowledge the oldest `count` records, all by default."""
        taken, self.pending = self.pending[:count], self.pending[count:] if count is not None else []
        for acknowledged in taken:
            acknowledged()
        if not self.pending:
            self._drained.set()

    async def drain(self) -> None:
        if self.pending:
            self._drained.clear()
            await self._drained.wait()
