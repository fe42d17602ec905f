"""The little of the codecs' syntax that a publisher needs: at which pictures decoding can start.

The access units of H.264 and HEVC come in two framings. In an mp4 each NAL unit has a length before it, of the size
that the extradata (avcC or hvcC) names; in Annex B a start code (00 00 01) stands before each. A unit of AV1 is a row
of OBUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from padreel_schemas.v1.video_pb2 import VideoStream

H264_IDR = 5
HEVC_IRAP = range(16, 22)
_START_CODE = b"\x00\x00\x01"
_SIZE_AT = {"h264": 4, "hevc": 21}  # byte of the extradata that has the size of lengths in its last two bits
_OBU_SEQUENCE, _OBU_FRAMES = 1, (3, 6)


def key_test(stream: VideoStream) -> Callable[[bytes], bool]:
    """Return what tells whether decoding can start at an access unit of the stream.

    In HEVC that is so at every IRAP picture, also where an open GOP begins.
    """
    prefix = length_size(stream.codec, stream.extradata)
    match stream.codec:
        case "h264":
            return lambda unit: any(header & 0x1F == H264_IDR for header in nal_headers(unit, prefix))
        case "hevc":
            return lambda unit: any(header >> 1 & 0x3F in HEVC_IRAP for header in nal_headers(unit, prefix))
    return _is_av1_key


def length_size(codec: str, extradata: bytes) -> int | None:
    """Return how many bytes a NAL unit's length has, or None where there are start codes."""
    at = _SIZE_AT.get(codec)
    if at is None or extradata[:1] != b"\x01" or len(extradata) < at + 2:
        return None
    return (extradata[at] & 3) + 1


def nal_headers(unit: bytes, prefix: int | None) -> Iterator[int]:
    """Yield the first byte of each NAL unit of an access unit, as far as its framing holds.

    `prefix` is the size of the lengths, None for start codes. A damaged unit ends the iteration and raises nothing:
    whether a unit is whole is for its reader to check.
    """
    if prefix is None:
        at = unit.find(_START_CODE)
        while at >= 0 and at + 3 < len(unit):
            yield unit[at + 3]
            at = unit.find(_START_CODE, at + 3)
        return
    at = 0
    while at + prefix < len(unit):
        yield unit[at + prefix]
        at += prefix + int.from_bytes(unit[at : at + prefix], "big")


def _is_av1_key(unit: bytes) -> bool:
    """Whether there is a sequence header and then, as the first frame, a key frame that is shown."""
    has_sequence = False
    for kind, payload in _obus(unit):
        if kind in _OBU_FRAMES:
            return has_sequence and payload[:1] != b"" and payload[0] & 0xF0 == 0x10
        has_sequence = has_sequence or kind == _OBU_SEQUENCE
    return False


def _obus(unit: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each OBU, as far as their sizes hold."""
    at = 0
    while at < len(unit):
        header = unit[at]
        at += 2 if header & 4 else 1
        size, shift = 0, 0
        while True:
            if at >= len(unit) or not header & 2 or shift > 49:
                return
            byte = unit[at]
            size |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if byte < 0x80:
                break
        yield header >> 3 & 15, unit[at : at + size]
        at += size
