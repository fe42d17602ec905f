"""Every panel and every alert on a fleet that really is in trouble: what they show is what happened.

A real Prometheus scrapes three real consumers by the configuration that is shipped; see `fleet_scene` for what happens.
A panel or an alert that nobody says here what to expect of is a failure.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

pytest.importorskip("grafana_foundation_sdk")

from tests.e2e.fleet_scene import EPISODE_SECONDS, FLEET, PARTITIONS, RIGS, TROUBLE, Scene, played
from tests.e2e.prometheus import SCRAPE_SECONDS, Curve
from tests.test_alerts import alerts
from tests.test_dashboards import board, panels

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: prometheus)"
)

FLEET_BOARD, CONSUMER_BOARD = "padreel-fleet.json", "padreel-consumer.json"
# The share of what waits for a consumer that it surely takes after the first scrape: what a counter begins with is not
# counted.
SEEN = 0.25


@pytest.fixture(scope="module")
def scene(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with played(broker, tmp_path_factory.mktemp("fleet")) as scene:
        yield scene


@dataclass(frozen=True, slots=True)
class Shown:
    """What a panel shows of one group, or of one consumer."""

    scene: Scene
    queries: Sequence[Sequence[Curve]]

    @property
    def curves(self) -> list[Curve]:
        """Of all its queries."""
        return [one for query in self.queries for one in query]

    def column(self, number: int) -> dict[str, float]:
        """A column of a table of rigs, at the end."""
        return {one.labels["rig"]: one.last for one in self.queries[number]}

    def of(self, **labels: str) -> list[Curve]:
        return [one for one in self.curves if labels.items() <= one.labels.items()]

    def last(self, **labels: str) -> float:
        """At the end, in sum."""
        return sum(one.last for one in self.of(**labels))

    def peak(self, **labels: str) -> float:
        return max(one.peak() for one in self.of(**labels))

    def rises_and_falls(self) -> bool:
        """Nothing at some time before the consumers were gone, much when they came back, nothing at the end."""
        scene = self.scene
        before = min(one.least(end=scene.stopped) for one in self.curves)
        back = max(one.peak(begin=scene.back) for one in self.curves)
        return before < 1 and back > 4 and max(one.last for one in self.curves) < 3

    def goes_on_rising(self) -> bool:
        """From the beginning of the trouble to the end, for nearly as many seconds."""
        rise = max(one.last - one.peak(end=self.scene.troubled) for one in self.curves)
        return rise > 0.5 * (self.scene.ended - self.scene.troubled)


Expected = dict[str, Callable[[Shown], bool]]


def tells_the_rigs_apart(s: Shown) -> bool:
    """Since when, open sessions, recorded and dropped frames, rejected records and sessions, pad age."""
    since, sessions, recorded, dropped, _, rejected, _ = (s.column(number) for number in range(7))
    return (
        set(since) == {*RIGS, "unknown"}
        and max(since["playing-0"], since["playing-1"]) < 5 < 20 < since["silent"]
        and [sessions[rig] for rig in RIGS] == [1, 1, 1, 0, 0]
        and all(recorded[rig] > 0 for rig in ("playing-0", "playing-1", "silent", "padless", "unknown"))
        and recorded["other-size"] == 0 < dropped["other-size"]
        and [rig for rig, count in rejected.items() if count > 0.5] == ["other-size"]
    )


# Of the group whose consumers fare well, but for their being killed once.
EXPECTED_OF_FLEET: Expected = {
    "Sessions recording": lambda s: s.last() == PARTITIONS,
    "Episodes in the last hour": lambda s: s.last() > SEEN * 2 * s.scene.waiting,
    "Furthest behind": Shown.rises_and_falls,
    "Room on the disk": lambda s: abs(s.last() - s.scene.disk_free) < 0.05,
    "Rigs": tells_the_rigs_apart,
    "Behind the rigs": lambda s: s.rises_and_falls() and len(s.curves) == 2 * PARTITIONS,
    "Oldest record that is still needed": lambda s: 0 < s.peak() < 60 and s.last() < 2 * PARTITIONS * 15,
    "Longest open session": lambda s: all(one.last > 15 for one in s.of()) and len(s.curves) == PARTITIONS,
    "Silent sessions": lambda s: (s.last(partition="0"), s.last(partition="1")) == (0, 1),
    "Frames by what became of them": lambda s: s.last(fate="row") > 10 * s.last(fate="rejected") > 0,
    "Episodes per hour by why they ended": lambda s: (
        min(s.last(reason="end"), s.last(reason="split")) > SEEN * s.scene.waiting and s.last(reason="silence") > 0.5
    ),
    # The rig without a pad has every frame decided by a deadline.
    "Episodes quarantined per hour": lambda s: (
        {one.labels["component"] for one in s.curves if one.peak()} == {"forced"}
    ),
    "Rejected by reason": lambda s: all(s.last(reason=one) > 0.5 for one in ("key_invalid", "unparsable", "schema")),
    "Video written": lambda s: s.last() > 10_000,
    "Frames whose pad was not proven": lambda s: 0.1 < s.peak(partition="0") <= 1 and s.peak(partition="1") == 0,
    "Pad records by how they were taken": lambda s: s.last(verdict="accepted") > 1 and s.last(verdict="late") == 0,
    "Age of the pad at a frame": lambda s: 0 < s.last() < 1,
    "Dead letters": lambda s: (
        s.last(kind="record", reason="key_invalid") > 3
        and s.last(kind="record", reason="unparsable") > 3
        and 0.9 < s.last(kind="session", reason="schema") < 1.5
    ),
}
# Of the group whose disk and dead-letter topic fail.
EXPECTED_OF_TROUBLE: Expected = {
    "Sessions recording": lambda s: s.last() > 0,
    "Episodes in the last hour": lambda s: 3.5 < s.last() < 2 * s.scene.waiting,
    "Furthest behind": Shown.goes_on_rising,
    "Behind the rigs": lambda s: s.goes_on_rising() and all(s.peak(partition=one) > 10 for one in ("0", "1")),
    "Oldest record that is still needed": lambda s: s.goes_on_rising() and s.last() > 4 * 45,
    "Rejected by reason": lambda s: s.last(reason="key_invalid") > 0.5,
    "Dead letters": lambda s: s.peak() == 0,
}
# Of the consumer that the group of PARTITIONS consumers began with, and was started again.
EXPECTED_OF_ONE: Expected = {
    "Partitions": lambda s: s.last() == 1,
    "Open sessions": lambda s: s.last() >= 1,
    "Storage failures": lambda s: s.peak() == 0,
    "Dead-letter failures": lambda s: s.peak() == 0,
    "Bytes held, of the limit": lambda s: len(s.of(what="video")) == len(s.of(what="pads")) and s.last() < 1,
    "Records held, of the limit": lambda s: len(s.of(what="frames")) == len(s.of(what="pads")) and s.last() < 0.5,
    "Watermark delay": lambda s: s.peak() < 60,
    "Event-loop stalls": lambda s: 0 < s.last() < 10,
    "Commits": lambda s: len(s.curves) == 2 and 0 < s.curves[0].last <= s.curves[1].last,
    "Steps of a commit": lambda s: all(0 < s.last(step=one) < 60 for one in ("stage", "commit", "publish")),
    "Read": lambda s: s.last(topic="scene.frames") > 10 * s.last(topic="scene.gamepad") > 0,
    "Video written": lambda s: s.last() > 5_000,
    "Rebalances and fences": lambda s: len(s.curves) == 2 and s.peak() < 10,
    "What they cost": lambda s: len(s.curves) == 2,
}
# Of the consumer of the group TROUBLE.
EXPECTED_OF_THREE: Expected = {
    "Partitions": lambda s: s.last() == PARTITIONS,
    "Storage failures": lambda s: s.last() > 2,
    "Dead-letter failures": lambda s: s.last() > 2,
    "Bytes held, of the limit": lambda s: s.last(what="video", partition="1") >= 0.9,
    "Video written": lambda s: s.last() > 1_000,
}


def shown(scene: Scene, panel: dict[str, object], choice: str) -> Shown:
    """What Grafana draws where somebody has chosen this group or consumer."""
    targets = panel["targets"]
    assert isinstance(targets, list)
    queries: list[list[Curve]] = []
    for target in targets:
        expression = re.sub(r"\$(group|instance)\b", choice, target["expr"])
        # As Grafana has it: four scrapes.
        expression = expression.replace("$__rate_interval", f"{4 * SCRAPE_SECONDS * 1000:.0f}ms")
        assert "$" not in expression
        found = scene.history(expression)
        assert found, f"{panel['title']}: {expression}: empty"
        queries.append(found)
    return Shown(scene, queries)


def check(scene: Scene, name: str, choice: str, *expected: Expected) -> None:
    """All panels show something, at the end numbers, and what is expected of them."""
    wrong: list[str] = []
    for panel in panels(name):
        found = shown(scene, panel, choice)
        text = f"{panel['title']} of {choice}: {[(dict(one.labels), one.points[-5:]) for one in found.curves]}"
        # Of a series that is gone, its consumer has lost the partition, nothing is expected.
        lasting = [[one for one in query if one.last_seen > scene.ended - 5] for query in found.queries]
        if not all(lasting) or any(math.isnan(one.last) or math.isinf(one.last) for query in lasting for one in query):
            wrong.append(f"no number: {text}")
        lasting_shown = Shown(scene, lasting)
        wrong += [f"not as expected: {text}" for one in expected if not one.get(panel["title"], bool)(lasting_shown)]
    assert not wrong, "\n".join(wrong)


def titles(name: str) -> set[str]:
    return {panel["title"] for panel in panels(name)}


def test_something_is_expected_of_every_panel() -> None:
    assert set(EXPECTED_OF_FLEET) == titles(FLEET_BOARD)
    assert set(EXPECTED_OF_TROUBLE) <= titles(FLEET_BOARD)
    assert set(EXPECTED_OF_ONE) == titles(CONSUMER_BOARD)
    assert set(EXPECTED_OF_THREE) <= titles(CONSUMER_BOARD)


def test_the_fleet_s_board_shows_what_happened(scene: Scene) -> None:
    check(scene, FLEET_BOARD, FLEET, EXPECTED_OF_FLEET)


def test_the_fleet_s_board_shows_the_trouble(scene: Scene) -> None:
    check(scene, FLEET_BOARD, TROUBLE, EXPECTED_OF_TROUBLE)


def test_the_consumer_s_board_shows_what_happened(scene: Scene) -> None:
    for name in ("one", "two"):
        check(scene, CONSUMER_BOARD, scene.instances[name], EXPECTED_OF_ONE)
    check(scene, CONSUMER_BOARD, scene.instances["three"], EXPECTED_OF_THREE)


def test_what_one_of_two_consumers_had(scene: Scene) -> None:
    """Which of them had the partition that it happened to is not known."""
    panel = {one["title"]: one for one in panels(CONSUMER_BOARD)}

    def both(title: str) -> list[Shown]:
        return [shown(scene, panel[title], scene.instances[name]) for name in ("one", "two")]

    assert sum(one.queries[1][0].peak() for one in both("Rebalances and fences")) > 2.5
    assert max(one.peak(topic="scene.frames") for one in both("What they cost")) > 0
    assert max(one.peak(what="frames") for one in both("Records held, of the limit")) > 0
    assert max(one.peak(what="video") for one in both("Bytes held, of the limit")) > 0.01
    assert max(one.peak() for one in both("Watermark delay")) > 1  # of the rig without a pad


def test_groups_and_consumers_can_be_chosen(scene: Scene) -> None:
    found = {}
    for name in (FLEET_BOARD, CONSUMER_BOARD):
        for variable in board(name)["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
                assert match
                found[variable["name"]] = scene.prometheus.values(match[2], of=match[1])
    assert found == {"group": [FLEET, TROUBLE], "instance": sorted(scene.instances.values())}


# Alert, group, and of the labels those that say where. No alert but these may fire.
FIRED: dict[tuple[str, str], list[dict[str, str]]] = {
    ("PadreelDown", ""): [{}],
    ("PadreelDown", FLEET): [{}],
    ("PadreelRejects", FLEET): [{}],
    ("PadreelSessionsRejected", FLEET): [{"reason": "schema"}],
    ("PadreelRigSilent", FLEET): [{"rig": "silent"}],
    ("PadreelPadsStale", FLEET): [{"partition": "0"}],
    ("PadreelFences", FLEET): [{"partition": "0"}],
    ("PadreelDiskNearlyFull", FLEET): [{}],
    ("PadreelDiskNearlyFull", TROUBLE): [{}],
    ("PadreelCommitsFailing", TROUBLE): [{"partition": "0"}],
    ("PadreelDeadLettersFailing", TROUBLE): [{"partition": "1"}],
    ("PadreelEpisodeEventsFailing", TROUBLE): [{}],
    ("PadreelLagGrowing", TROUBLE): [{"partition": "0"}, {"partition": "1", "topic": "scene.frames"}],
    ("PadreelNextOld", TROUBLE): [{"partition": "0"}, {"partition": "1"}],
    ("PadreelNothingRecorded", TROUBLE): [{}],
}
# What the third consumer may have seen before its disk failed, and what a slow machine may make of seconds.
MAY_FIRE = {
    *(("PadreelRejects", TROUBLE), ("PadreelPadsStale", TROUBLE), ("PadreelSessionsRejected", TROUBLE)),
    *(("PadreelLagGrowing", FLEET), ("PadreelNothingRecorded", FLEET), ("PadreelDown", TROUBLE)),
    ("PadreelNextOld", FLEET),
    *(("PadreelRigSilent", TROUBLE),),
}
LABELS = ("partition", "topic", "rig")  # that a summary names where an alert has them
BEFORE_THE_TROUBLE = {
    "PadreelLagGrowing",  # on a slow machine
    "PadreelDown",
    "PadreelDiskNearlyFull",
    "PadreelPadsStale",
    "PadreelRigSilent",
    "PadreelEpisodeEventsFailing",
}


def fired(scene: Scene) -> list[Curve]:
    return scene.history('ALERTS{alertstate="firing"}')


def test_something_is_expected_of_every_alert() -> None:
    assert {name for name, _ in FIRED} == {rule["alert"] for rule in alerts()}


def test_alerts_fire_for_what_happened_and_for_nothing_else(scene: Scene) -> None:
    found: dict[tuple[str, str], list[Curve]] = {}
    for one in fired(scene):
        found.setdefault((one.labels["alertname"], one.labels.get("consumergroup", "")), []).append(one)
    assert set(FIRED) <= set(found) <= set(FIRED) | MAY_FIRE
    for name, places in FIRED.items():
        for place in places:
            assert any(place.items() <= one.labels.items() for one in found[name]), (name, place)


def test_alerts_fire_when_it_happened_and_end_with_it(scene: Scene) -> None:
    for one in fired(scene):
        name, group = one.labels["alertname"], one.labels.get("consumergroup", "")
        if name not in BEFORE_THE_TROUBLE and (name, group) not in MAY_FIRE:
            assert one.first_seen > scene.troubled, name
        if (name, group) == ("PadreelDown", FLEET):
            assert scene.stopped < one.first_seen < one.last_seen < scene.back + 15
        if (name, group) == ("PadreelDown", ""):
            assert one.last_seen < scene.troubled


def test_alerts_say_what_is_wrong(scene: Scene) -> None:
    """A template that fails leaves its error in the text."""
    assert set(scene.said) >= {name for name, _ in FIRED}
    for one in scene.said.values():
        summary = one["annotations"]["summary"]
        assert not re.search(r"error|no value|NaN|Inf|\{\{", summary), summary
        assert all(one["labels"][label] in summary for label in LABELS if label in one["labels"])


def test_the_scene_is_as_long_as_it_says(scene: Scene) -> None:
    """Longer than an episode, and every part of it happened."""
    times = [scene.began, scene.troubled, scene.stopped, scene.back, scene.ended]
    assert times == sorted(times)
    assert scene.troubled - scene.began > EPISODE_SECONDS
