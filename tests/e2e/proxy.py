"""A network that can be cut: a proxy before a broker that holds back whatever is sent, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HOST = "127.0.0.1"


class Proxy:
    """Forwards connections to `target_port` from a port of its own.

    While it is cut nothing gets through and nothing is refused: connections stay open, new ones are accepted, what is
    sent waits in buffers and arrives when the cut ends. That is what a cable that was pulled looks like to TCP.
    """

    def __init__(self) -> None:
        self.port = 0
        self.target_port = 0
        self._open = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Let nothing through until `mend`."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def mend(self) -> None:
        """Let everything through again, what was held back first."""
        self._loop.call_soon_threadsafe(self._open.set)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            to_broker = await asyncio.open_connection(_HOST, self.target_port)
        except OSError:  # the broker is not there: neither is the connection
            writer.transport.abort()
            return
        await asyncio.gather(self._forward(reader, to_broker[1]), self._forward(to_broker[0], writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # either side may end it at any time
            while data := await reader.read(2**16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        await self._open.wait()  # an end is held back like everything else
        writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        await self._connect(reader, writer)
        self._connections.discard(task)

    def run(self, ready: threading.Event) -> None:
        """Serve until the loop is stopped."""
        asyncio.set_event_loop(self._loop)

        async def serve() -> asyncio.Server:
            self._open.set()
            return await asyncio.start_server(self._accept, _HOST, 0)

        server = self._loop.run_until_complete(serve())
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._connections:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Start a proxy in a thread; set its `target_port` before anybody connects."""
    made, ready = Proxy(), threading.Event()
    thread = threading.Thread(target=made.run, args=(ready,), name="proxy")
    thread.start()
    assert ready.wait(60)
    try:
        yield made
    finally:
        made.stop()
        thread.join()
