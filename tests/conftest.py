"""Fixtures of the whole suite: a real broker, topic names, the real recordings, lerobot without a network."""

import importlib
import importlib.util
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from deploy.local.broker import Broker, LocalBrokerError

CHECKOUT = Path(__file__).resolve().parents[1]

# Before anything imports huggingface_hub or datasets, which read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# No deadline: a machine that is busy with a broker and a decoder is slow without anything being wrong.
hypothesis.settings.register_profile(
    "ci", derandomize=False, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("dev", parent=hypothesis.settings.get_profile("ci"), max_examples=20)
hypothesis.settings.register_profile("thorough", parent=hypothesis.settings.get_profile("ci"), max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# For machines whose speed is not known: what is left then is skipped, and says so.
_minutes = os.environ.get("PADREEL_TEST_MINUTES")
_deadline = None if not _minutes else time.monotonic() + 60 * float(_minutes)

_hugging_face_home = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Names no other test uses; the test creates the topics with the partitions it needs."""

    frames: str
    pads: str


def pytest_configure(config: pytest.Config) -> None:
    # lerobot and datasets cache what they read: not in the home of whoever runs the tests.
    home = tempfile.TemporaryDirectory(prefix="padreel-hf-")
    config.stash[_hugging_face_home] = home
    os.environ["HF_HOME"] = home.name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _hugging_face_home in config.stash:
        config.stash[_hugging_face_home].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "broker" in fixtures:
            item.add_marker(pytest.mark.broker)
        if "recordings" in fixtures:
            item.add_marker(pytest.mark.recordings)
        if "lerobot" in fixtures:
            item.add_marker(pytest.mark.lerobot)
        if item.get_closest_marker("lerobot") is not None:
            # lerobot, torch and datasets warn about themselves; on a busy machine their import alone takes a minute.
            item.add_marker(pytest.mark.filterwarnings("default"), append=False)
    # What fails quickly comes first; the broker, which is busy even when idle, is started late.
    items.sort(key=lambda item: (_needs(item, "broker"), _needs(item, "lerobot")))


def _needs(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if _deadline is not None and time.monotonic() > _deadline:
        pytest.skip(f"left out: PADREEL_TEST_MINUTES={os.environ['PADREEL_TEST_MINUTES']} are over")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real broker: KAFKA_BOOTSTRAP_SERVERS, or one started for this run.

    Without Java or Maven the tests that need it fail with the install command; PADREEL_SKIP_BROKER=1 skips them.
    """
    configured = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if configured:
        yield configured
        return
    if os.environ.get("PADREEL_SKIP_BROKER") == "1":
        pytest.skip("PADREEL_SKIP_BROKER=1: tests that need a real broker are left out")
    node = Broker(log_dir=tmp_path_factory.mktemp("kafka"))
    try:
        node.start()
    except LocalBrokerError as error:
        pytest.fail(f"{error}\n(PADREEL_SKIP_BROKER=1 leaves these tests out)", pytrace=False)
    try:
        yield node.bootstrap_servers
    finally:
        node.stop()


@pytest.fixture
def topics() -> TopicNames:
    """Unique names of a frames topic and a gamepad topic, not created yet."""
    run = uuid.uuid4().hex[:12]
    return TopicNames(frames=f"frames-{run}", pads=f"gamepad-{run}")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of the real recordings: `sessions/` and the two YAML files."""
    configured = os.environ.get("PADREEL_TEST_RECORDINGS")
    folder = Path(configured).expanduser() if configured else CHECKOUT.parent / "shared" / "data"
    if not (folder / "sessions").is_dir():
        if configured:
            pytest.fail(f"PADREEL_TEST_RECORDINGS={configured}: it has no folder `sessions`", pytrace=False)
        pytest.skip("no real recordings: PADREEL_TEST_RECORDINGS names no folder, and ../shared/data is not there")
    return folder


@pytest.fixture(scope="session")
def lerobot() -> ModuleType:
    """lerobot's dataset module, imported once for all tests that judge our datasets by it."""
    if importlib.util.find_spec("lerobot") is None:
        pytest.skip("lerobot is not installed (LEROBOT=0)")
    return importlib.import_module("lerobot.datasets.lerobot_dataset")
