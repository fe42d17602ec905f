"""The quality gate: what it holds back, what it can be set to, and that merge judges as it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from padreel.click_settings import load_settings, settings_options
from padreel.core.gate import gate_described, gate_of, weakest
from padreel.core.quality import COMPONENTS, EpisodeFigures, quality_of
from padreel.dataset.layout import DatasetSpec
from padreel.dataset.rows import data_table, episode_columns, judged
from padreel.dataset.spec import gate_from, log_gate
from padreel.errors import SettingsError
from padreel.options import load, options_of
from padreel.quality_config import load_quality_config, quality_gate
from padreel.settings import ConsumerSettings, ConversionSettings, ConvertSettings
from padreel.training.quality import table_quality
from tests.test_stage import draft, spec
from tests.video_source import Source, encode, moving_pictures

CONFIGURED = load_quality_config()
BOUNDS = CONFIGURED.bounds
GIVEN = {"session_root": "in", "output_root": "out", "repo_id": "a/b", "task": "play"}
THRESHOLDS = st.none() | st.floats(BOUNDS.lowest, BOUNDS.highest)
FIGURES = st.builds(
    lambda rows, forced, age, state, step: EpisodeFigures(
        rows,
        30,
        min(forced, rows),
        np.arange(rows, dtype=np.int64) * step,
        np.full(rows, age, np.float32),
        np.full((rows, 2), state, np.float32),
    ),
    st.integers(1, 200),
    st.integers(0, 200),
    st.sampled_from([-1.0, 0.5, 29.0, 31.0]),
    st.floats(-1, 1, width=32),
    st.integers(1, 10**9),
)


@pytest.fixture(scope="module")
def source() -> Source:
    return encode(moving_pictures(40), gop=12)


# ---- the decision


@given(figures=FIGURES, asked=THRESHOLDS)
def test_an_episode_is_held_back_exactly_if_its_score_is_below(figures: EpisodeFigures, asked: float | None) -> None:
    gate = gate_of(CONFIGURED, asked, "flag")
    found, scored = gate.judge(figures), quality_of(figures, CONFIGURED)
    assert (found.score, found.components) == (scored.score, dict(scored.components))
    assert found.threshold == (BOUNDS.threshold if asked is None else asked)
    assert found.quarantined == (found.score < found.threshold)


@given(components=st.dictionaries(st.sampled_from(COMPONENTS), st.floats(0, 1), min_size=1))
def test_the_weakest_component_is_the_one_without_which_most_would_be_won(components: dict[str, float]) -> None:
    won = {name: CONFIGURED.weights[name] * (1 - value) for name, value in components.items()}
    found = weakest(components, CONFIGURED.weights)
    assert (found == "") == (max(won.values()) == 0)
    if found:
        assert won[found] == max(won.values())


def test_who_sets_nothing_lets_in_everything_but_a_dead_pad() -> None:
    """The default lies just above what a session can have at best whose pad was dead, and leaves an idle one alone."""
    rows = 300
    good: dict[str, Any] = {
        "forced": 0,
        "time_ns": np.rint(np.arange(rows) * 1e9 / 30).astype(np.int64),
        "pad_age": np.full(rows, 0.01, np.float32),
        "state": np.zeros((rows, 27), np.float32),
    }
    gate = quality_gate(None)
    idle = gate.judge(EpisodeFigures(rows, 30, **good))
    assert (idle.quarantined, idle.weakest) == (False, "activity")
    silent = gate.judge(EpisodeFigures(rows, 30, **{**good, "pad_age": np.full(rows, -1, np.float32)}))
    assert not silent.quarantined
    dead = gate.judge(EpisodeFigures(rows, 30, **{**good, "pad_age": np.full(rows, -1, np.float32), "forced": rows}))
    assert (dead.quarantined, dead.weakest) == (True, "forced")
    assert dead.score == pytest.approx(0.5, abs=1e-6)


# ---- what it can be set to


@given(asked=st.floats(0, 1) | st.floats(allow_nan=False))
def test_what_is_asked_for_has_to_be_in_the_range(asked: float) -> None:
    if BOUNDS.lowest <= asked <= BOUNDS.highest:
        gate = gate_of(CONFIGURED, asked, "flag")
        assert (gate.threshold, gate.origin) == (asked, "flag")
        assert gate_described(CONFIGURED, gate.described()) == gate
    else:
        with pytest.raises(ValueError, match=r"expected 0\.5 to 0\.95"):
            gate_of(CONFIGURED, asked, "flag")


@pytest.mark.parametrize("settings", [ConsumerSettings, ConvertSettings])
def test_the_help_says_what_the_configuration_does(settings: type[ConsumerSettings]) -> None:
    (option,) = [one for one in options_of(settings) if one.name == "min_quality_score"]
    assert (option.flag, option.env) == ("--min-quality-score", "MIN_QUALITY_SCORE")
    assert f"{BOUNDS.lowest} to {BOUNDS.highest}; {BOUNDS.threshold} when unset" in option.help
    assert option.metavar == f"{BOUNDS.lowest}..{BOUNDS.highest}"


def started(arguments: list[str], environment: dict[str, str]) -> ConversionSettings:
    """The settings of a command that is started so."""
    found: list[ConversionSettings] = []

    @click.command()
    @settings_options(ConversionSettings)
    def command(**values: object) -> None:
        found.append(load_settings(ConversionSettings, {**GIVEN, **{k: v for k, v in values.items() if v is not None}}))

    done = CliRunner().invoke(command, arguments, env={"MIN_QUALITY_SCORE": None, **environment})
    if isinstance(done.exception, SettingsError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return found[0]


@pytest.mark.parametrize(
    ("arguments", "environment", "threshold", "origin"),
    [
        ([], {}, BOUNDS.threshold, "default"),
        ([], {"MIN_QUALITY_SCORE": ""}, BOUNDS.threshold, "default"),
        ([], {"MIN_QUALITY_SCORE": "0.6"}, 0.6, "MIN_QUALITY_SCORE"),
        (["--min-quality-score", "0.5"], {}, 0.5, "--min-quality-score"),
        (["--min-quality-score", "0.95"], {"MIN_QUALITY_SCORE": "0.6"}, 0.95, "--min-quality-score"),
    ],
)
def test_where_the_threshold_is_from_is_known_and_logged(
    arguments: list[str], environment: dict[str, str], threshold: float, origin: str
) -> None:
    settings = started(arguments, environment)
    described = {"threshold": threshold, "range": [0.5, 0.95], "origin": origin}
    assert gate_from(settings).described() == described
    with capture_logs() as lines:
        log_gate(settings)
    (line,) = lines
    assert described.items() <= line.items()


def test_a_program_s_argument_is_one() -> None:
    settings = load(ConversionSettings, {**GIVEN, "min_quality_score": 0.7})
    assert gate_from(settings).origin == "argument"


@pytest.mark.parametrize("value", ["0.49", "0.951", "-1", "2", "nan", "much"])
def test_a_threshold_outside_of_the_range_ends_the_start(value: str) -> None:
    with pytest.raises(SettingsError, match=r"--min-quality-score \(MIN_QUALITY_SCORE\): found") as caught:
        started([], {"MIN_QUALITY_SCORE": value})
    if value not in ("nan", "much"):
        assert "expected 0.5 to 0.95, the range that quality_config.json allows" in str(caught.value)


# ---- the same score as merge's


@pytest.mark.parametrize("what", [{}, {"columns": "minimal"}, {"one_slot": True}])
@pytest.mark.parametrize("forced", [0, 4])
def test_merge_gives_the_score_that_was_given_at_the_commit(what: dict[str, Any], forced: int, source: Source) -> None:
    described: DatasetSpec = replace(spec(**what), gate=quality_gate(0.95))
    one = replace(draft(source, first_row=18), forced=forced)
    columns = episode_columns(described, one, episode_index=4, first_row_index=1000, task_index=2)
    found = judged(described, columns, forced)
    assert found is not None
    table = pa.table(data_table(described, columns))
    read = table_quality(table, 30, forced, CONFIGURED)
    assert (found.score, found.components) == (read.score, dict(read.components))
    assert found.quarantined


def test_a_dataset_without_a_gate_is_not_judged(source: Source) -> None:
    columns = episode_columns(spec(), draft(source), episode_index=0, first_row_index=0, task_index=0)
    assert judged(spec(), columns, 0) is None
