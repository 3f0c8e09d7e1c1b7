"""Configurations for property tests: any combination of fields that do not contradict each other."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from pynats_twisted.jetstream.api import (
    ConsumerConfig,
    ConsumerLimits,
    DeliverPolicy,
    DiscardPolicy,
    ExternalStream,
    Placement,
    PriorityPolicy,
    ReplayPolicy,
    Republish,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamSource,
    SubjectTransform,
)

INT64 = 2**63 - 1
UINT64 = 2**64 - 1

names = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters=".*>/\\"), min_size=1, max_size=20)
texts = st.text(st.characters(codec="utf-8"), max_size=50)
limits = st.integers(-1, INT64)
#: Durations that a float holds to the nanosecond.
seconds = st.integers(0, 10**15).map(lambda nanoseconds: nanoseconds / 1_000_000_000)
ages = st.just(0.0) | st.integers(10**8, 10**15).map(lambda nanoseconds: nanoseconds / 1_000_000_000)
times = st.integers(-(10**15), 10**16).map(lambda micros: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros))
filters = st.sampled_from(["a", "a.>", "*.b", ">", "ä.*.c.>"])
metadata = st.dictionaries(texts.filter(lambda key: not key.startswith("_nats.")), texts, max_size=3)
transforms = st.builds(SubjectTransform, src=filters, dest=st.sampled_from(["", "b.$1", "b.{{wildcard(1)}}"]))


def some_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Keywords for any of the fields, in any combination."""
    return st.fixed_dictionaries({}, optional=fields)


sources = st.one_of(
    st.builds(StreamSource, name=names, opt_start_seq=st.integers(0, UINT64), filter_subject=filters, external=st.none()),
    st.builds(StreamSource, name=names, opt_start_time=times, subject_transforms=st.lists(transforms, max_size=2)),
    st.builds(StreamSource, name=names, external=st.builds(ExternalStream, api_prefix=names, deliver_prefix=st.just("") | names)),
)

stream_configs = some_of(
    description=texts,
    subjects=st.lists(names, max_size=3, unique=True),
    retention=st.sampled_from(RetentionPolicy),
    max_consumers=limits,
    max_msgs=limits,
    max_bytes=limits,
    max_age=ages,
    max_msgs_per_subject=limits,
    max_msg_size=st.integers(-1, 2**31 - 1),
    discard=st.sampled_from(DiscardPolicy),
    storage=st.sampled_from(StorageType),
    replicas=st.integers(1, 5),
    no_ack=st.booleans(),
    placement=st.builds(Placement, cluster=texts, tags=st.lists(texts, max_size=2)),
    sources=st.lists(sources, max_size=2),
    compression=st.sampled_from(StoreCompression),
    first_seq=st.integers(0, UINT64),
    subject_transform=transforms,
    republish=st.builds(Republish, src=filters, dest=st.just("repub.>"), headers_only=st.booleans()),
    allow_direct=st.booleans(),
    mirror_direct=st.booleans(),
    sealed=st.booleans(),
    deny_delete=st.booleans(),
    allow_rollup_hdrs=st.booleans(),
    consumer_limits=st.builds(ConsumerLimits, inactive_threshold=seconds, max_ack_pending=limits),
    allow_msg_ttl=st.booleans(),
    allow_atomic=st.booleans(),
    allow_batched=st.booleans(),
    metadata=metadata,
).flatmap(lambda fields: names.map(lambda name: StreamConfig(name=name, **fields)))

_starts: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"deliver_policy": st.sampled_from([DeliverPolicy.ALL, DeliverPolicy.LAST, DeliverPolicy.NEW])}),
    st.fixed_dictionaries({"deliver_policy": st.just(DeliverPolicy.BY_START_SEQUENCE), "opt_start_seq": st.integers(1, UINT64)}),
    st.fixed_dictionaries({"deliver_policy": st.just(DeliverPolicy.BY_START_TIME), "opt_start_time": times}),
)
_pulls = some_of(
    max_waiting=st.integers(0, INT64),
    max_batch=st.integers(0, INT64),
    max_bytes=st.integers(0, INT64),
    max_expires=ages,
    priority_policy=st.just(PriorityPolicy.NONE),
) | st.fixed_dictionaries(
    {
        "priority_policy": st.sampled_from([policy for policy in PriorityPolicy if policy is not PriorityPolicy.NONE]),
        "priority_groups": st.lists(st.from_regex(r"\A[a-zA-Z0-9/_=-]{1,16}\Z"), min_size=1, max_size=2),
        "priority_timeout": seconds,
    }
)
_pushes = st.fixed_dictionaries(
    {"deliver_subject": names, "idle_heartbeat": ages.filter(bool), "flow_control": st.booleans()},
    optional={"deliver_group": names, "rate_limit_bps": st.integers(0, UINT64)},
)
_others = some_of(
    durable=names,
    description=texts,
    ack_wait=seconds,
    backoff=st.lists(seconds, max_size=3),
    filter_subjects=st.just(["a.b", "c.*", "ü"]),
    replay_policy=st.sampled_from(ReplayPolicy),
    sample_freq=st.sampled_from(["50%", "7"]),
    max_ack_pending=limits,
    headers_only=st.booleans(),
    inactive_threshold=seconds,
    replicas=st.integers(0, 5),
    mem_storage=st.booleans(),
    metadata=metadata,
    pause_until=times,
)
consumer_configs = st.tuples(_starts, _pulls | _pushes, _others).map(lambda parts: ConsumerConfig(**parts[0], **parts[1], **parts[2]))
