"""Whether LeRobot can load a dataset and reads of it what is there: descriptive files, rows, packets, timing.

What a writer is still adding is no fault: the episodes up to those that info.json counts are checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from padreel.dataset.projection import STATS_KEYS
from padreel.training.check.report import Finding, Verdict, judged
from padreel.training.pictures import Packets, count_pictures, rate_in_stream, read_packets
from padreel.training.tree import Place, Tree, TreeError, read_schema, read_table, read_tree

MAX_PACKED_SECONDS: Final = 1000  # LeRobot's float32 sums fail from 1024 s on where an episode begins above 0
_ROW_COLUMNS: Final = ["timestamp", "frame_index", "episode_index", "index", "task_index"]


def check_dataset(root: Path, findings: list[Finding], figures: dict[str, Any], *, deep: bool) -> Tree | None:
    """Add what is found to `findings` and `figures`; the tree, or None where it cannot even be read."""
    try:
        tree = read_tree(root)
    except (TreeError, OSError) as error:
        findings.append(Finding("metadata", Verdict.FAIL, str(error)))
        return None
    places = tree.places[: tree.info["total_episodes"]]
    figures |= {
        "episodes": len(places),
        "frames": sum(place.length for place in places),
        "hours": sum(place.length for place in places) / tree.fps / 3600,
        "tasks": len(tree.tasks),
        "fps": tree.fps,
        "size": "x".join(map(str, tree.size)),
    }
    findings.append(judged("metadata", _metadata(tree, places), f"{len(places)} episodes, {len(tree.tasks)} tasks"))
    findings.append(judged("statistics", _statistics(tree), "of every feature, all ten figures"))
    findings.append(judged("rows", _rows(tree, places), f"{figures['frames']} rows, dense, with exact timestamps"))
    _videos(tree, places, findings, deep=deep)
    return tree


def _metadata(tree: Tree, places: Sequence[Place]) -> list[str]:
    info, problems = tree.info, []
    if len(places) != info["total_episodes"]:
        problems.append(f"{len(places)} episodes have metadata, info.json says {info['total_episodes']}")
    frames = sum(place.length for place in places)
    if frames != info["total_frames"]:
        problems.append(f"the episodes' lengths add up to {frames}, info.json says {info['total_frames']}")
    if len(tree.tasks) < info["total_tasks"]:
        problems.append(f"{len(tree.tasks)} tasks, info.json says {info['total_tasks']}")
    row = 0
    for number, place in enumerate(places):
        where = f"episode {number}"
        if place.index != number:
            problems.append(f"{where}: episode_index: found {place.index}")
        if (place.first_row, place.end_row) != (row, row + place.length):
            end = row + place.length
            problems.append(f"{where}: rows {place.first_row} to {place.end_row}, expected {row} to {end}")
        if unknown := [task for task in place.tasks if task not in tree.tasks]:
            problems.append(f"{where}: task {unknown[0]!r} is not in tasks.parquet")
        row += place.length
    for name in ("data_number", "video_number"):
        if places and getattr(places[-1], name) != max(getattr(place, name) for place in places):
            kind = name.partition("_")[0]
            problems.append(f"the last episode does not own the highest {kind} file: LeRobot appends there")
    return problems


def _statistics(tree: Tree) -> list[str]:
    problems = []
    for name, feature in tree.info["features"].items():
        found = tree.stats.get(name)
        if not isinstance(found, dict):
            problems.append(f"stats.json: {name} is missing")
            continue
        for key in STATS_KEYS:
            shape = (1,) if key == "count" else (3, 1, 1) if feature["dtype"] == "video" else tuple(feature["shape"])
            try:
                values = np.asarray(found.get(key), np.float64)
            except (TypeError, ValueError):
                values = np.zeros(0)
            if values.shape != shape or not np.isfinite(values).all():
                problems.append(f"stats.json: {name}/{key}: found shape {values.shape}, expected {shape}, finite")
    return problems


# ---- rows ----------------------------------------------------------------------------------------------------


def _rows(tree: Tree, places: Sequence[Place]) -> list[str]:
    problems: list[str] = []
    by_file: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_file[place.data].append(place)
    wanted = {name for name, feature in tree.info["features"].items() if feature["dtype"] != "video"}
    for name, inside in by_file.items():
        try:
            table = read_table(tree.root / name, _ROW_COLUMNS)
            columns = set(read_schema(tree.root / name).names)
        except (TreeError, OSError) as error:
            problems.append(str(error))
            continue
        if columns != wanted:
            problems.append(f"{name}: columns missing or unknown: {', '.join(sorted(columns ^ wanted))}")
        problems += _rows_of_file(tree, name, table, inside)
    return problems


def _rows_of_file(tree: Tree, name: str, table: pa.Table, inside: Sequence[Place]) -> list[str]:
    columns = {one: table.column(one).to_numpy() for one in _ROW_COLUMNS}
    at, problems = 0, []
    for place in inside:
        rows = slice(at, at + place.length)
        at += place.length
        frames = np.arange(place.length)
        expected = {
            "timestamp": (frames / tree.fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(place.length, place.index),
            "index": place.first_row + frames,
            "task_index": np.full(place.length, tree.tasks.get(place.tasks[0], -1) if place.tasks else -1),
        }
        for column, values in expected.items():
            found = columns[column][rows]
            if len(found) != place.length:
                problems.append(f"{name}: episode {place.index}: {len(found)} rows, expected {place.length}")
                break
            if not np.array_equal(found, values):
                row = int(np.flatnonzero(found != values)[0])
                problems.append(
                    f"{name}: episode {place.index}, row {row}: {column}: found {found[row]}, expected {values[row]}"
                )
    if at < table.num_rows and inside[-1].index < len(tree.places) - 1:
        problems.append(f"{name}: {table.num_rows} rows, expected {at}")
    return problems


# ---- videos --------------------------------------------------------------------------------------------------


def _videos(tree: Tree, places: Sequence[Place], findings: list[Finding], *, deep: bool) -> None:
    by_file: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_file[place.video].append(place)
    width, height = tree.size
    packets_wrong: list[str] = []
    timing: list[str] = []
    undecodable: list[str] = []
    rates: dict[bytes, Fraction | None] = {}
    for name, inside in by_file.items():
        packets = read_packets(tree.root / name, tree.fps, width, height)
        if isinstance(packets, str):
            packets_wrong.append(packets)
            continue
        packets_wrong += _packets(name, packets, inside, tree)
        if packets.extradata not in rates:
            rates[packets.extradata] = rate_in_stream(tree.root / name, width, height)
        timing += _timing(tree, name, packets, rates[packets.extradata])
        if deep:
            found = count_pictures(tree.root / name)
            if isinstance(found, str):
                undecodable.append(found)
            elif found < len(packets.pts):
                undecodable.append(f"{name}: {found} pictures can be decoded, expected {len(packets.pts)}")
    findings.append(judged("packets", packets_wrong, f"{len(by_file)} videos: a picture for every row, exactly placed"))
    findings.append(judged("stream timing", timing, f"{tree.fps} Hz, as info.json says", Verdict.WARN))
    if deep:
        findings.append(judged("decodable", undecodable, f"every picture of {len(by_file)} videos"))


def _packets(name: str, packets: Packets, inside: Sequence[Place], tree: Tree) -> list[str]:
    problems, fps = [], tree.fps
    order = sorted(packets.pts)
    shown = order[: max(round(place.to_timestamp * fps) for place in inside)]
    if shown != list(range(len(shown))):
        wrong = next(i for i, pts in enumerate(shown) if pts != i)
        problems.append(f"{name}: picture {wrong} is shown at frame {shown[wrong]}, expected {wrong}")
    elif wrong_at := next((b for a, b in pairwise(order) if a == b or b.denominator != 1), None):
        # Behind the last row pictures may lie apart: of what was lost there, those that rows were predicted from.
        problems.append(f"{name}: a picture is shown at frame {wrong_at}, expected whole frames, one picture at each")
    if not packets.keys or not packets.keys[0]:
        problems.append(f"{name}: the first packet is no keyframe")
    if packets.size != tree.size:
        problems.append(f"{name}: pictures of {packets.size}, expected {tree.size}")
    for place in inside:
        problems += _placed(name, place, len(order), fps)
    if len(inside) > 1 and len(order) > MAX_PACKED_SECONDS * fps:
        problems.append(f"{name}: {len(order)} pictures of several episodes, more than {MAX_PACKED_SECONDS} s")
    for before, after in pairwise(sorted(inside, key=lambda place: place.from_timestamp)):
        if after.from_timestamp < before.to_timestamp:
            problems.append(f"{name}: episodes {before.index} and {after.index} share pictures")
    return problems


def _placed(name: str, place: Place, pictures: int, fps: int) -> list[str]:
    """Whether an episode's two timestamps are whole frames, as many as it has rows, all of them in the file."""
    first, end = place.from_timestamp * fps, place.to_timestamp * fps
    if abs(first - round(first)) > 1e-6 or abs(end - round(end)) > 1e-6:
        return [f"{name}: episode {place.index}: timestamps {first:g} and {end:g} frames, expected whole ones"]
    if round(end) - round(first) != place.length:
        return [f"{name}: episode {place.index}: {round(end) - round(first)} pictures for {place.length} rows"]
    if round(first) < 0 or round(end) > pictures:
        return [f"{name}: episode {place.index}: pictures {round(first)} to {round(end)}, the file has {pictures}"]
    return []


def _timing(tree: Tree, name: str, packets: Packets, coded: Fraction | None) -> list[str]:
    problems = []
    if packets.rate != tree.fps or any(one != 1 for one in packets.durations):
        problems.append(f"{name}: pictures do not last 1/{tree.fps} s each, as info.json says ({packets.rate} Hz)")
    # 29.97 is written as 30, so that much is no contradiction.
    if coded is not None and round(coded) != tree.fps:
        said = f"{name}: the coded stream says {float(coded):g} Hz, info.json {tree.fps}"
        problems.append(f"{said}: LeRobot's tools that join videos misplace its pictures")
    return problems
