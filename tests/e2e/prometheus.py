"""A real Prometheus on loopback with the configuration that is shipped, in which a minute is a second.

What is changed of it is said here: where it finds the consumers, every time (`6m` becomes `6s`), and the thresholds
that the caller names, each with what it is instead.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CHECKOUT
from tests.e2e.processes import wait_for

SHIPPED = CHECKOUT / "deploy" / "prometheus"
SCRAPE_SECONDS = 1.0  # and the time that a consumer has to answer
_TIMES = {"m": 1, "h": 60}  # seconds that stand for one of them


@dataclass(frozen=True, slots=True)
class Curve:
    """A series over the time that was asked for: its labels, and (Unix seconds, value) in order."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def first_seen(self) -> float:
        return self.points[0][0]

    @property
    def last_seen(self) -> float:
        return self.points[-1][0]

    @property
    def last(self) -> float:
        return self.points[-1][1]

    def peak(self, begin: float = 0.0, end: float = math.inf) -> float:
        """The highest value between two times; 0 if there is none."""
        return max((value for at, value in self.points if begin <= at <= end and not math.isnan(value)), default=0.0)

    def least(self, end: float) -> float:
        """The lowest value until a time."""
        return min((value for at, value in self.points if at <= end), default=math.inf)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def in_seconds(text: str) -> str:
    """An expression or a rule with every time a sixtieth of what it was."""
    return re.sub(r"\b(\d+)([mh])\b", lambda match: f"{int(match[1]) * _TIMES[match[2]]}s", text)


class Prometheus:
    """One that runs."""

    def __init__(self, folder: Path, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._targets = folder / "targets.json"

    def scrape(self, ports: Sequence[int]) -> None:
        """Let it scrape these ports of this machine from now on."""
        made = self._targets.with_suffix(".new")
        made.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]), encoding="utf-8")
        made.replace(self._targets)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def now(self, expression: str) -> list[Curve]:
        """What an expression is now, each series with one point."""
        found = self._ask("query", query=expression)
        return [Curve(one["metric"], _points([one["value"]])) for one in found["result"]]

    def history(self, expression: str, begin: float, end: float) -> list[Curve]:
        """What an expression was, scrape by scrape."""
        found = self._ask("query_range", query=expression, start=begin, end=end, step=SCRAPE_SECONDS)
        return [Curve(one["metric"], _points(one["values"])) for one in found["result"]]

    def values(self, label: str, of: str) -> list[str]:
        """The values of a label of a metric, as Grafana asks for a variable."""
        return list(self._ask(f"label/{label}/values", **{"match[]": of}))

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing, as Prometheus tells those who are to be called."""
        return list(self._ask("alerts")["alerts"])

    def _ask(self, what: str, **arguments: object) -> Any:
        url = f"{self._address}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from error


def _points(values: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    return [(at, float(value)) for at, value in values]


def _write_configuration(folder: Path, thresholds: Mapping[str, str]) -> None:
    rules = (SHIPPED / "alerts.yaml").read_text("utf-8")
    for shipped, instead in thresholds.items():
        assert rules.count(shipped) == 1, shipped
        rules = rules.replace(shipped, instead)
    (folder / "alerts.yaml").write_text(in_seconds(rules), encoding="utf-8")
    configuration = yaml.safe_load((SHIPPED / "prometheus.yaml").read_text("utf-8"))
    for name in ("scrape_interval", "evaluation_interval"):
        assert configuration["global"][name] == "15s"
        configuration["global"][name] = f"{SCRAPE_SECONDS * 1000:.0f}ms"
    (job,) = configuration["scrape_configs"]
    del job["dns_sd_configs"]
    job["file_sd_configs"] = [{"files": ["targets.json"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")


@contextmanager
def prometheus(folder: Path, thresholds: Mapping[str, str]) -> Iterator[Prometheus]:
    """Start one; its files are in `folder`. `thresholds`: text of the shipped alerts, and what stands there instead."""
    binary = shutil.which("prometheus")
    assert binary is not None
    folder.mkdir()
    _write_configuration(folder, thresholds)
    port = free_port()
    made = Prometheus(folder, port)
    made.scrape([])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                *("--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "data")),
                *("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: process.poll() is not None or made.is_ready(), "Prometheus is ready")
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            yield made
        finally:
            process.terminate()
            process.wait()
