from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EpisodeEvent(_message.Message):
    __slots__ = ("kind", "consumergroup", "partition", "commit", "rig_id", "reason", "detail", "first_frame_offset", "last_frame_offset", "episode_index", "first_frame_index", "frames", "idle_until_ns", "seconds")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        COMMITTED: _ClassVar[EpisodeEvent.Kind]
        REJECTED: _ClassVar[EpisodeEvent.Kind]
        QUARANTINED: _ClassVar[EpisodeEvent.Kind]
    COMMITTED: EpisodeEvent.Kind
    REJECTED: EpisodeEvent.Kind
    QUARANTINED: EpisodeEvent.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONSUMERGROUP_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    RIG_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_OFFSET_FIELD_NUMBER: _ClassVar[int]
    EPISODE_INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    IDLE_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    kind: EpisodeEvent.Kind
    consumergroup: str
    partition: int
    commit: int
    rig_id: str
    reason: str
    detail: str
    first_frame_offset: int
    last_frame_offset: int
    episode_index: int
    first_frame_index: int
    frames: int
    idle_until_ns: int
    seconds: float
    def __init__(self, kind: _Optional[_Union[EpisodeEvent.Kind, str]] = ..., consumergroup: _Optional[str] = ..., partition: _Optional[int] = ..., commit: _Optional[int] = ..., rig_id: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., first_frame_offset: _Optional[int] = ..., last_frame_offset: _Optional[int] = ..., episode_index: _Optional[int] = ..., first_frame_index: _Optional[int] = ..., frames: _Optional[int] = ..., idle_until_ns: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...
