"""The types of the JetStream API, as of server 2.15 (API level 5): configurations, infos, requests, answers and subjects.

Durations are seconds and times are datetimes with a time zone; the wire has nanoseconds and RFC 3339, and nothing gets lost between
them (:class:`Seconds`, :class:`Timestamp`). :func:`encode` makes the JSON of a request and checks it first; :func:`decode` reads an
answer, raises the error that it may be, and keeps what this package does not know readable in ``unknown``.
"""

from __future__ import annotations

from .account import AccountInfo, AccountLimits, AccountTier, ApiStats
from .ack_subject import JsMsgMetadata, parse_ack_subject
from .api_errors import ErrorObject, api_error
from .cluster import ClusterInfo, DesiredClusterInfo, PeerInfo, Placement, ReconfigurationOrigin, ReconfigurationStatus
from .codec import decode, encode, load, parse_object
from .consumer_config import ConsumerConfig
from .enums import (
    AckPolicy,
    ConsumerAction,
    DeliverPolicy,
    DiscardPolicy,
    PersistMode,
    PriorityPolicy,
    ReplayPolicy,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    UnknownValue,
)
from .fields import ApiObject
from .infos import ConsumerInfo, LostStreamData, PriorityGroupState, SequenceInfo, StreamAlternate, StreamInfo, StreamState
from .levels import API_LEVEL, REQUIRED_LEVEL_HEADER, Feature, check_api_level, required_api_level, used_features
from .metadata import user_metadata
from .patterns import check_name, check_subject, collide, is_subset
from .publish import BatchFlowAck, BatchFlowError, BatchFlowGap, PubAck, decode_batch_flow, decode_counter, decode_pub_ack
from .requests import (
    ConsumerPauseRequest,
    ConsumerResetRequest,
    ConsumerUnpinRequest,
    CreateConsumerRequest,
    MsgDeleteRequest,
    MsgGetRequest,
    NextRequest,
    PagedRequest,
    PurgeRequest,
    StepDownRequest,
    StreamInfoRequest,
    StreamsRequest,
)
from .responses import (
    LIST_PAGE,
    NAMES_PAGE,
    SUBJECTS_PAGE,
    ConsumerList,
    ConsumerNames,
    ConsumerResetInfo,
    MsgGetResponse,
    PauseInfo,
    PurgeResponse,
    RawStreamMsg,
    StreamList,
    StreamNames,
    SuccessResponse,
    UnpinResponse,
)
from .sources import ExternalStream, StreamConsumerSource, StreamSource, StreamSourceInfo, SubjectTransform
from .stream_config import ConsumerLimits, Republish, StreamConfig
from .subjects import ApiPrefix
from .values import Seconds, Timestamp, format_time, from_nanoseconds, parse_time, to_nanoseconds

__all__ = [
    "API_LEVEL",
    "LIST_PAGE",
    "NAMES_PAGE",
    "REQUIRED_LEVEL_HEADER",
    "SUBJECTS_PAGE",
    "AccountInfo",
    "AccountLimits",
    "AccountTier",
    "AckPolicy",
    "ApiObject",
    "ApiPrefix",
    "ApiStats",
    "BatchFlowAck",
    "BatchFlowError",
    "BatchFlowGap",
    "ClusterInfo",
    "ConsumerAction",
    "ConsumerConfig",
    "ConsumerInfo",
    "ConsumerLimits",
    "ConsumerList",
    "ConsumerNames",
    "ConsumerPauseRequest",
    "ConsumerResetInfo",
    "ConsumerResetRequest",
    "ConsumerUnpinRequest",
    "CreateConsumerRequest",
    "DeliverPolicy",
    "DesiredClusterInfo",
    "DiscardPolicy",
    "ErrorObject",
    "ExternalStream",
    "Feature",
    "JsMsgMetadata",
    "LostStreamData",
    "MsgDeleteRequest",
    "MsgGetRequest",
    "MsgGetResponse",
    "NextRequest",
    "PagedRequest",
    "PauseInfo",
    "PeerInfo",
    "PersistMode",
    "Placement",
    "PriorityGroupState",
    "PriorityPolicy",
    "PubAck",
    "PurgeRequest",
    "PurgeResponse",
    "RawStreamMsg",
    "ReconfigurationOrigin",
    "ReconfigurationStatus",
    "ReplayPolicy",
    "Republish",
    "RetentionPolicy",
    "Seconds",
    "SequenceInfo",
    "StepDownRequest",
    "StorageType",
    "StoreCompression",
    "StreamAlternate",
    "StreamConfig",
    "StreamConsumerSource",
    "StreamInfo",
    "StreamInfoRequest",
    "StreamList",
    "StreamNames",
    "StreamSource",
    "StreamSourceInfo",
    "StreamState",
    "StreamsRequest",
    "SubjectTransform",
    "SuccessResponse",
    "Timestamp",
    "UnknownValue",
    "UnpinResponse",
    "api_error",
    "check_api_level",
    "check_name",
    "check_subject",
    "collide",
    "decode",
    "decode_batch_flow",
    "decode_counter",
    "decode_pub_ack",
    "encode",
    "format_time",
    "from_nanoseconds",
    "is_subset",
    "load",
    "parse_ack_subject",
    "parse_object",
    "parse_time",
    "required_api_level",
    "to_nanoseconds",
    "used_features",
    "user_metadata",
]
