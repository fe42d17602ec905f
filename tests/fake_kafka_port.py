"""A port that speaks as much Kafka as a client's first connection needs, and is as curt as Kafka is."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

_METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _SASL_AUTHENTICATE = 3, 17, 18, 36


@dataclass(frozen=True, slots=True)
class Port:
    """How the port behaves. `advertised` None is its own address; without `password` it knows no SASL but refuses it.

    An `impostor` takes any user and proves nothing in return.
    """

    context: ssl.SSLContext | None = None
    password: str | None = None
    mechanism: str = "PLAIN"
    advertised: tuple[str, int] | None = None
    impostor: bool = False


@contextlib.asynccontextmanager
async def listening(port: Port) -> AsyncIterator[int]:
    """The number of the port while it listens."""
    number = 0
    connections: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        answer = _answers(port, lambda: port.advertised or ("127.0.0.1", number))
        with contextlib.suppress(EOFError, OSError):
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                if not 8 <= size <= 100_000:  # as Kafka does at the first bytes of a TLS handshake
                    break
                message = await reader.readexactly(size)
                key, _, correlation = struct.unpack(">hhi", message[:8])
                body = answer(key, message[8:])
                if body is None:
                    break
                writer.write(struct.pack(">ii", 4 + len(body), correlation) + body)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=port.context)
    async with server:
        number = server.sockets[0].getsockname()[1]
        yield number
        await asyncio.gather(*filter(None, connections))


def _answers(port: Port, address: Callable[[], tuple[str, int]]) -> Callable[[int, bytes], bytes | None]:
    """What one connection answers to a request's key and body; None hangs up."""
    is_known = port.password is None

    def answer(key: int, message: bytes) -> bytes | None:
        nonlocal is_known
        if key == _API_VERSIONS:
            known = [(_METADATA, 0), (_SASL_HANDSHAKE, 1), (_API_VERSIONS, 0), (_SASL_AUTHENTICATE, 0)]
            return struct.pack(">hi", 0, len(known)) + b"".join(struct.pack(">hhh", k, v, v) for k, v in known)
        if key == _SASL_HANDSHAKE:
            code = 34 if port.password is None else 0 if port.mechanism.encode() in message else 33
            return struct.pack(">hi", code, 1) + _string(port.mechanism)
        if key == _SASL_AUTHENTICATE:
            if port.impostor:
                # The client's own nonce, which stands after "r=", must begin the server's.
                nonce = message.rpartition(b",r=")[2]
                said = b"v=" if b"p=" in nonce else b"r=" + nonce + b"x,s=c2FsdA==,i=4096"
                return struct.pack(">hhi", 0, -1, len(said)) + said
            is_known = message.endswith(b"\0" + (port.password or "").encode())
            return struct.pack(">h", 0 if is_known else 58) + _string("Invalid username or password") + bytes(4)
        if key == _METADATA and is_known:
            host, number = address()
            return struct.pack(">ii", 1, 1) + _string(host) + struct.pack(">ii", number, 0)
        return None

    return answer


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
