"""The messages: generated code, golden messages, README, keys and NAL types."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

import padreel_schemas
from padreel_schemas import regenerate
from padreel_schemas.key import session_key
from padreel_schemas.keyframes import key_test, length_size, nal_headers
from padreel_schemas.v1.episodes_pb2 import EpisodeEvent
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import VideoFrame, VideoStream

PACKAGE = Path(padreel_schemas.__file__).parent
GOLDEN = sorted((PACKAGE / "golden").glob("*.bin"))
MESSAGES: dict[str, type[Message]] = {
    f"padreel.v1.{kind.__name__}": kind for kind in (EpisodeEvent, GamepadState, VideoFrame)
}


def test_regenerating_gives_the_same_files(tmp_path: Path) -> None:
    generated = regenerate.generate(tmp_path)
    assert len(generated) == 6
    for path in generated:
        checked_in = regenerate.SOURCE_ROOT / path.relative_to(tmp_path)
        assert path.read_bytes() == checked_in.read_bytes(), (
            f"{checked_in.name}: run python -m padreel_schemas.regenerate"
        )


def test_another_generator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regenerate, "GRPCIO_TOOLS", "0.1")
    with pytest.raises(regenerate.GeneratorError, match=r"is installed, the generated code is made with 0\.1"):
        regenerate.generate(tmp_path)


def test_there_is_a_golden_message_of_each_kind() -> None:
    names = {"event", "event_with_sequence", "heartbeat", "pad_end", "keyframe", "delta_frame", "frame_end"}
    assert {path.stem for path in GOLDEN} == names | {"episode_committed", "session_rejected"}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_messages_decode_for_ever(path: Path) -> None:
    description = json.loads(path.with_suffix(".json").read_text())
    data = path.read_bytes()
    message = MESSAGES[description["message"]]()
    message.ParseFromString(data)
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == description["fields"]
    assert message.SerializeToString(deterministic=True) == data


def test_an_event_of_a_recorder_has_neither_sequence_nor_kind() -> None:
    event = GamepadState.FromString((PACKAGE / "golden" / "event.bin").read_bytes())
    assert not event.HasField("sequence")
    assert event.kind == GamepadState.EVENT
    assert GamepadState(sequence=0).HasField("sequence")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_readme_dumps_the_golden_message(path: Path) -> None:
    readme = (PACKAGE.parent / "README.md").read_text()
    blocks = re.findall(rf"`golden/{path.name}`[^\n]*\n\n```hex\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 1
    assert bytes.fromhex("".join(line.partition("|")[0] for line in blocks[0].splitlines())) == path.read_bytes()


def test_golden_access_units_are_what_their_kind_says() -> None:
    key = VideoFrame.FromString((PACKAGE / "golden" / "keyframe.bin").read_bytes())
    delta = VideoFrame.FromString((PACKAGE / "golden" / "delta_frame.bin").read_bytes())
    assert length_size("h264", key.stream.extradata) == 4
    is_key = key_test(key.stream)
    assert is_key(key.access_unit)
    assert not is_key(delta.access_unit)


def test_nal_headers_in_both_framings() -> None:
    assert list(nal_headers(b"\0\0\0\x02\x67\xaa\0\0\0\x03\x65\xbb\xcc", 4)) == [0x67, 0x65]
    assert list(nal_headers(b"\0\x02\x09\xf0\0\x01\x41", 2)) == [0x09, 0x41]
    assert list(nal_headers(b"\0\0\0\x01\x67\xaa\0\0\x01\x65\xbb", None)) == [0x67, 0x65]
    assert length_size("h264", b"\0\0\0\x01\x67\x64\0\x1f") is None
    assert length_size("h264", b"\x01\x64\0\x1f\xfd\xe1\0") == 2
    assert length_size("hevc", b"\x01" + bytes(20) + b"\xff\0") == 4
    assert length_size("av1", b"\x01" + bytes(30)) is None


@pytest.mark.parametrize("unit", [b"", b"\0", b"\0\0\0\x05", b"\xff\xff\xff\xff\x41", b"\0\0\0\0"])
@pytest.mark.parametrize("extradata", [b"\x01" + b"\xff" * 30, b"\0\0\x01"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_damaged_units_are_no_keys_and_raise_nothing(unit: bytes, codec: str, extradata: bytes) -> None:
    assert not key_test(VideoStream(codec=codec, extradata=extradata))(unit)


def test_keys() -> None:
    assert session_key("a.b-C_9", "00ff") == b"a.b-C_9@00ff"
    for session, run in [("", "0"), ("..", "0"), ("a/b", "0"), ("a" * 129, "0"), ("ü", "0"), ("a\n", "0")]:
        with pytest.raises(ValueError, match="session name"):
            session_key(session, run)
    for run in ("", "G", "FF", "0" * 17, "0\n"):
        with pytest.raises(ValueError, match="run"):
            session_key("a", run)
