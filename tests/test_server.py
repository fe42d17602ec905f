from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from padreel.errors import SettingsError
from padreel.metrics import Metrics
from padreel.server import Server


def serve(server: Server, scene: Callable[[Callable[..., Any]], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        port = await server.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession() as client:

                async def ask(path: str, method: str = "GET") -> tuple[int, str, str]:
                    async with client.request(method, f"http://127.0.0.1:{port}{path}") as answer:
                        return answer.status, await answer.text(), answer.headers["Content-Type"]

                await scene(ask)
        finally:
            await server.stop()

    asyncio.run(play())


def test_metrics_are_served_as_text() -> None:
    metrics = Metrics()
    metrics.rebalances.labels("g").inc(3)

    async def scene(ask: Callable[..., Any]) -> None:
        status, text, kind = await ask("/metrics")
        assert status == 200
        assert 'padreel_rebalances_total{consumergroup="g"} 3.0' in text
        assert kind.startswith("text/plain; version=0.0.4")

    serve(Server(metrics, live=lambda: None, ready=lambda: None), scene)


def test_probes_say_why_not() -> None:
    reasons: dict[str, str | None] = {"live": None, "ready": "partition 3: opening"}

    async def scene(ask: Callable[..., Any]) -> None:
        assert (await ask("/livez"))[:2] == (200, "ok\n")
        assert (await ask("/readyz"))[:2] == (503, "partition 3: opening\n")
        reasons.update(live="stuck", ready=None)
        assert (await ask("/livez"))[:2] == (503, "stuck\n")
        assert (await ask("/readyz"))[:2] == (200, "ok\n")

    serve(Server(Metrics(), live=lambda: reasons["live"], ready=lambda: reasons["ready"]), scene)


def test_nothing_else_is_served() -> None:
    async def scene(ask: Callable[..., Any]) -> None:
        for path in ("/", "/metrics/x", "/../etc/passwd", "/debug"):
            assert (await ask(path))[0] == 404
        for path in ("/metrics", "/livez", "/readyz"):
            for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                assert (await ask(path, method))[0] == 405

    serve(Server(Metrics(), live=lambda: None, ready=lambda: None), scene)


def test_it_listens_where_it_is_told_to_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[object] = []
    bind = socket.socket.bind

    def noted(one: socket.socket, address: Any) -> None:
        bound.append(address)
        bind(one, address)

    async def play() -> None:
        server = Server(Metrics(), live=lambda: None, ready=lambda: None)
        await server.start("127.0.0.1", 0)
        await server.stop()

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "bind", noted)
        asyncio.run(play())
    assert bound == [("127.0.0.1", 0)]


def test_a_port_that_is_taken_names_the_settings() -> None:
    async def play(port: int) -> None:
        with pytest.raises(SettingsError, match=r"--metrics-port .*PADREEL_METRICS_PORT.*127\.0\.0\.1"):
            await Server(Metrics(), live=lambda: None, ready=lambda: None).start("127.0.0.1", port)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asyncio.run(play(taken.getsockname()[1]))
