"""The HTTP port: /metrics, /livez and /readyz, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from padreel.errors import SettingsError
from padreel.metrics import CONTENT_TYPE, Metrics

Probe = Callable[[], str | None]  # None: healthy; else why not


class Server:
    """Serves on one address until stopped."""

    def __init__(self, metrics: Metrics, *, live: Probe, ready: Probe) -> None:
        application = web.Application()
        application.router.add_get("/metrics", _metrics_page(metrics))
        application.router.add_get("/livez", _probe_page(live))
        application.router.add_get("/readyz", _probe_page(ready))
        self._runner = web.AppRunner(application, access_log=None)
        self._site: web.TCPSite | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen on `host`:`port` (0: any free port); returns the port. Raises SettingsError if it cannot."""
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host, port)
        try:
            await self._site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"--metrics-host (PADREEL_METRICS_HOST) and --metrics-port (PADREEL_METRICS_PORT): cannot listen on "
                f"{host}:{port}: {error.strerror or error}"
            ) from error
        listening: int = self._runner.addresses[0][1]
        return listening

    async def stop(self) -> None:
        """Stop listening; requests in hand are finished."""
        await self._runner.cleanup()


def _metrics_page(metrics: Metrics) -> Handler:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return page


def _probe_page(probe: Probe) -> Handler:
    async def page(request: web.Request) -> web.Response:
        reason = probe()
        if reason is None:
            return web.Response(text="ok\n")
        return web.Response(text=reason + "\n", status=503)

    return page
