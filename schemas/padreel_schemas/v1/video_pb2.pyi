from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VideoStream(_message.Message):
    __slots__ = ("codec", "width", "height", "fps_num", "fps_den", "extradata", "color_range", "color_space", "color_primaries", "color_transfer")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FPS_NUM_FIELD_NUMBER: _ClassVar[int]
    FPS_DEN_FIELD_NUMBER: _ClassVar[int]
    EXTRADATA_FIELD_NUMBER: _ClassVar[int]
    COLOR_RANGE_FIELD_NUMBER: _ClassVar[int]
    COLOR_SPACE_FIELD_NUMBER: _ClassVar[int]
    COLOR_PRIMARIES_FIELD_NUMBER: _ClassVar[int]
    COLOR_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    codec: str
    width: int
    height: int
    fps_num: int
    fps_den: int
    extradata: bytes
    color_range: int
    color_space: int
    color_primaries: int
    color_transfer: int
    def __init__(self, codec: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., fps_num: _Optional[int] = ..., fps_den: _Optional[int] = ..., extradata: _Optional[bytes] = ..., color_range: _Optional[int] = ..., color_space: _Optional[int] = ..., color_primaries: _Optional[int] = ..., color_transfer: _Optional[int] = ...) -> None: ...

class SessionInfo(_message.Message):
    __slots__ = ("rig_id", "task", "game_id", "media_uri", "heartbeats")
    RIG_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    GAME_ID_FIELD_NUMBER: _ClassVar[int]
    MEDIA_URI_FIELD_NUMBER: _ClassVar[int]
    HEARTBEATS_FIELD_NUMBER: _ClassVar[int]
    rig_id: str
    task: str
    game_id: str
    media_uri: str
    heartbeats: bool
    def __init__(self, rig_id: _Optional[str] = ..., task: _Optional[str] = ..., game_id: _Optional[str] = ..., media_uri: _Optional[str] = ..., heartbeats: bool = ...) -> None: ...

class VideoFrame(_message.Message):
    __slots__ = ("sequence", "frame_index", "monotonic_ns", "pts", "camera", "kind", "access_unit", "keyframe", "stream", "session", "frame_count")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FRAME: _ClassVar[VideoFrame.Kind]
        END: _ClassVar[VideoFrame.Kind]
    FRAME: VideoFrame.Kind
    END: VideoFrame.Kind
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    PTS_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACCESS_UNIT_FIELD_NUMBER: _ClassVar[int]
    KEYFRAME_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    frame_index: int
    monotonic_ns: int
    pts: int
    camera: str
    kind: VideoFrame.Kind
    access_unit: bytes
    keyframe: bool
    stream: VideoStream
    session: SessionInfo
    frame_count: int
    def __init__(self, sequence: _Optional[int] = ..., frame_index: _Optional[int] = ..., monotonic_ns: _Optional[int] = ..., pts: _Optional[int] = ..., camera: _Optional[str] = ..., kind: _Optional[_Union[VideoFrame.Kind, str]] = ..., access_unit: _Optional[bytes] = ..., keyframe: bool = ..., stream: _Optional[_Union[VideoStream, _Mapping]] = ..., session: _Optional[_Union[SessionInfo, _Mapping]] = ..., frame_count: _Optional[int] = ...) -> None: ...
