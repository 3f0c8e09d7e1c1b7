"""What is known to be wrong in the configuration of a stream before a server is asked.

Only rules that every server has, and that subjects have none but visible characters. A server breaks some of them silently, by
changing the value, and refuses others with a text that does not say which value it means. Whether a stream fits its account, its
origins and other streams only the server knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import JetStreamConfigError
from .enums import DiscardPolicy, PersistMode, RetentionPolicy, StorageType
from .metadata import metadata_problem
from .patterns import collide, is_subset, name_problem, subject_problem

if TYPE_CHECKING:
    from .sources import ExternalStream, StreamConsumerSource, StreamSource
    from .stream_config import Republish, StreamConfig

MAX_DESCRIPTION = 4 * 1024
MAX_REPLICAS = 5
SHORTEST_AGE = 0.1
SHORTEST_MARKER = 1.0

# What a stream may store of the server's own subjects without no_ack, by the pattern of those subjects.
_RESERVED = {"$JS.>": "$JS.EVENT.>", "$JSC.>": "", "$NRG.>": "", "$SYS.>": "$SYS.ACCOUNT.>"}


def check_stream_config(config: StreamConfig) -> None:
    """Check a configuration.

    :raises JetStreamConfigError: it breaks a rule; the error names the field, its value and the rule.
    """
    _check("name", config.name, name_problem(config.name))
    _check_description(config.description)
    _check("metadata", config.metadata, metadata_problem(config.metadata))
    _check_limits(config)
    _check_subjects(config)
    _check_mirror(config)
    _check_features(config)


def _check(field: str, value: object, problem: str) -> None:
    if problem:
        raise JetStreamConfigError(field, value, problem)


def _refuse_if(wrong: bool, field: str, value: object, rule: str) -> None:
    if wrong:
        raise JetStreamConfigError(field, value, rule)


def _check_description(description: object) -> None:
    too_long = isinstance(description, str) and len(description.encode("utf-8", "replace")) > MAX_DESCRIPTION
    _refuse_if(too_long, "description", description, f"must be at most {MAX_DESCRIPTION} bytes long")


def _check_limits(config: StreamConfig) -> None:
    for field in ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size"):
        value = getattr(config, field)
        _refuse_if(value < -1, field, value, "must be -1 for no limit, or more")
    _refuse_if(not 0 <= config.replicas <= MAX_REPLICAS, "replicas", config.replicas, f"must be between 1 and {MAX_REPLICAS}")
    age, window = config.max_age, config.duplicate_window
    _refuse_if(0 < age < SHORTEST_AGE, "max_age", age, f"must be 0 for no limit, or at least {SHORTEST_AGE} s")
    _refuse_if(0 < window < SHORTEST_AGE, "duplicate_window", window, f"must be 0 for the default, or at least {SHORTEST_AGE} s")
    _refuse_if(0 < age < window, "duplicate_window", window, f"must not be longer than max_age, which is {age} s")
    if config.discard_new_per_subject:
        rule = "needs discard=DiscardPolicy.NEW and a max_msgs_per_subject of at least 1"
        _refuse_if(config.discard != DiscardPolicy.NEW or config.max_msgs_per_subject < 1, "discard_new_per_subject", True, rule)
    if config.placement is not None:
        _refuse_if(config.placement.preferred != "", "placement.preferred", config.placement.preferred, "must not be set for a stream")


def _check_subjects(config: StreamConfig) -> None:
    seen: set[str] = set()
    for subject in config.subjects:
        _check("subjects", subject, subject_problem(subject, wildcards=True))
        _refuse_if(subject in seen, "subjects", subject, "must not be listed twice")
        seen.add(subject)
        if config.no_ack:
            alone = config.replicas <= 1 or subject != ">"
            _refuse_if(not alone, "replicas", config.replicas, "must be 1 for a stream that stores every subject")
            continue
        for reserved, allowed in _RESERVED.items():
            if collide(subject, reserved) and not (allowed and is_subset(subject, allowed)):
                rule = f"must not overlap with {reserved}, the server's own, but for a stream with no_ack"
                raise JetStreamConfigError("subjects", subject, rule)
    transform = config.subject_transform
    if transform is not None and transform.src:
        _check("subject_transform.src", transform.src, subject_problem(transform.src, wildcards=True))
    if config.republish is not None:
        destination = config.republish.dest
        for subject in config.subjects:
            if not subject_problem(destination, wildcards=True) and collide(destination, subject):
                raise JetStreamConfigError("republish.dest", destination, f"must not match {subject!r}, which the stream itself stores")


def _check_mirror(config: StreamConfig) -> None:
    if config.sources:
        _refuse_if(config.allow_msg_schedules, "allow_msg_schedules", True, "must not be set for a stream with sources")
    if config.mirror is None:
        return
    for field in (
        *("subjects", "sources", "first_seq", "allow_msg_counter", "allow_atomic", "allow_batched", "allow_msg_schedules"),
        "subject_delete_marker_ttl",
    ):
        value = getattr(config, field)
        _refuse_if(bool(value), field, value, "must not be set for a mirror")


def _check_features(config: StreamConfig) -> None:
    marker = config.subject_delete_marker_ttl
    _refuse_if(0 < marker < SHORTEST_MARKER, "subject_delete_marker_ttl", marker, f"must be 0 for none, or at least {SHORTEST_MARKER} s")
    if config.deny_purge:
        # The last two need roll-ups: the server would turn deny_purge off without a word.
        for field in ("allow_rollup_hdrs", "allow_msg_schedules", "subject_delete_marker_ttl"):
            value = getattr(config, field)
            _refuse_if(bool(value), "deny_purge", True, f"must not be set together with {field}, which has to purge")
    if config.allow_msg_counter:
        rule = "a stream of counters must not have this"
        _refuse_if(config.discard == DiscardPolicy.NEW, "discard", config.discard, rule)
        _refuse_if(config.retention != RetentionPolicy.LIMITS, "retention", config.retention, rule)
        _refuse_if(config.allow_msg_schedules, "allow_msg_schedules", True, rule)
        _refuse_if(config.allow_msg_ttl, "allow_msg_ttl", True, rule)
    if config.allow_msg_schedules:
        _refuse_if(config.discard == DiscardPolicy.NEW, "discard", config.discard, "a stream with allow_msg_schedules must not have this")
    if config.persist_mode == PersistMode.ASYNC:
        needs = "persist_mode=PersistMode.ASYNC needs"
        _refuse_if(config.storage != StorageType.FILE, "storage", config.storage, f"{needs} a stream in files")
        _refuse_if(config.replicas > 1, "replicas", config.replicas, f"{needs} a single replica")
        _refuse_if(config.allow_atomic, "allow_atomic", True, f"{needs} a stream without this")


# --- parts of a configuration --------------------------------------------------------------------------------


def check_stream_source(source: StreamSource) -> None:
    """Check the origin of a mirror, or one of the origins of a stream.

    :raises JetStreamConfigError: it breaks a rule.
    """
    _check("name", source.name, name_problem(source.name))
    if source.filter_subject:
        _check("filter_subject", source.filter_subject, subject_problem(source.filter_subject, wildcards=True))
        rule = "must not be set together with subject_transforms"
        _refuse_if(bool(source.subject_transforms), "filter_subject", source.filter_subject, rule)
    for index, transform in enumerate(source.subject_transforms):
        if transform.src:
            _check(f"subject_transforms.{index}.src", transform.src, subject_problem(transform.src, wildcards=True))
    if source.external is not None:
        _check_external(source.external)
    if source.consumer is not None:
        _check_consumer(source, source.consumer)


def _check_external(external: ExternalStream) -> None:
    prefix, deliver = external.api_prefix, external.deliver_prefix
    if prefix:
        _check("external.api_prefix", prefix, subject_problem(prefix))
    rule = "must not be this account's own API; leave external out for a stream of the same account and domain"
    _refuse_if(prefix == "$JS.API", "external.api_prefix", prefix, rule)
    if deliver:
        _check("external.deliver_prefix", deliver, subject_problem(deliver))


def _check_consumer(source: StreamSource, consumer: StreamConsumerSource) -> None:
    _check("consumer.name", consumer.name, name_problem(consumer.name))
    _check("consumer.deliver_subject", consumer.deliver_subject, subject_problem(consumer.deliver_subject))
    for field in ("opt_start_seq", "opt_start_time", "filter_subject"):
        value = getattr(source, field)
        _refuse_if(bool(value), field, value, "must not be set together with consumer, which knows where it is")


def check_republish(republish: Republish) -> None:
    """Check a republish.

    :raises JetStreamConfigError: it breaks a rule.
    """
    if republish.src:
        _check("src", republish.src, subject_problem(republish.src, wildcards=True))
    _refuse_if(not republish.dest, "dest", republish.dest, "must not be empty")
