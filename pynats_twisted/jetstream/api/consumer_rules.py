"""What is known to be wrong in the configuration of a consumer before a server is asked.

Only rules that every server has. Whether a consumer fits its stream only the server knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ...errors import JetStreamConfigError
from .enums import AckPolicy, DeliverPolicy, PriorityPolicy
from .metadata import metadata_problem
from .patterns import group_problem, is_subset, name_problem, subject_problem
from .stream_rules import MAX_DESCRIPTION, MAX_REPLICAS

if TYPE_CHECKING:
    from .consumer_config import ConsumerConfig

SHORTEST_HEARTBEAT = 0.1
SHORTEST_EXPIRES = 0.001

# With more pairs of filters than this, overlaps are left to the server to find.
_MAX_PAIRS = 10_000

_SAMPLE = re.compile(r"[0-9]{1,9}%?")


def check_consumer_config(config: ConsumerConfig) -> None:
    """Check a configuration.

    :raises JetStreamConfigError: it breaks a rule; the error names the field, its value and the rule.
    """
    _check_texts(config)
    _check_numbers(config)
    _check_start(config)
    _check_filters(config)
    if config.deliver_subject:
        _check_push(config)
    else:
        _check_pull(config)
    _check_priority(config)
    if config.ack_policy == AckPolicy.FLOW_CONTROL:
        _check_flow_control_acks(config)


def _refuse(config: ConsumerConfig, field: str, rule: str) -> None:
    raise JetStreamConfigError(field, getattr(config, field), rule)


def _check(field: str, value: Any, problem: str) -> None:
    if problem:
        raise JetStreamConfigError(field, value, problem)


def _refuse_set(config: ConsumerConfig, fields: tuple[str, ...], rule: str) -> None:
    for field in fields:
        if getattr(config, field):
            _refuse(config, field, rule)


def _check_texts(config: ConsumerConfig) -> None:
    for field in ("name", "durable"):
        value = getattr(config, field)
        if value:
            _check(field, value, name_problem(value))
    if config.name and config.durable and config.name != config.durable:
        _refuse(config, "name", f"must be the same as durable, which is {config.durable!r}, or left out")
    if len(config.description.encode("utf-8", "replace")) > MAX_DESCRIPTION:
        _refuse(config, "description", f"must be at most {MAX_DESCRIPTION} bytes long")
    _check("metadata", config.metadata, metadata_problem(config.metadata))
    if config.sample_freq and not _SAMPLE.fullmatch(config.sample_freq):
        _refuse(config, "sample_freq", "must be a whole number of percent, as '50%'")


def _check_numbers(config: ConsumerConfig) -> None:
    for field, least in {"max_deliver": -1, "max_ack_pending": -1, "max_waiting": 0, "max_batch": 0, "max_bytes": 0}.items():
        if getattr(config, field) < least:
            _refuse(config, field, f"must be at least {least}")
    if not 0 <= config.replicas <= MAX_REPLICAS:
        _refuse(config, "replicas", f"must be 0, for as many as the stream's, or between 1 and {MAX_REPLICAS}")
    if 0 < config.max_deliver < len(config.backoff):
        _refuse(config, "backoff", f"must not have more values than max_deliver, which is {config.max_deliver}")


def _check_start(config: ConsumerConfig) -> None:
    by_sequence = config.deliver_policy == DeliverPolicy.BY_START_SEQUENCE
    by_time = config.deliver_policy == DeliverPolicy.BY_START_TIME
    if by_sequence and not config.opt_start_seq:
        _refuse(config, "opt_start_seq", "must be set with DeliverPolicy.BY_START_SEQUENCE")
    if by_time and config.opt_start_time is None:
        _refuse(config, "opt_start_time", "must be set with DeliverPolicy.BY_START_TIME")
    if config.opt_start_seq and isinstance(config.deliver_policy, DeliverPolicy) and not by_sequence:
        _refuse(config, "opt_start_seq", f"must not be set with deliver_policy {config.deliver_policy.value!r}")
    if config.opt_start_time is not None and isinstance(config.deliver_policy, DeliverPolicy) and not by_time:
        _refuse(config, "opt_start_time", f"must not be set with deliver_policy {config.deliver_policy.value!r}")
    if config.deliver_policy == DeliverPolicy.LAST_PER_SUBJECT and not config.filter_subject and not config.filter_subjects:
        _refuse(config, "filter_subject", "must be set with DeliverPolicy.LAST_PER_SUBJECT; '>' is every subject")


def _check_filters(config: ConsumerConfig) -> None:
    filters = config.filter_subjects
    if config.filter_subject:
        _check("filter_subject", config.filter_subject, subject_problem(config.filter_subject, wildcards=True))
        if filters:
            _refuse(config, "filter_subject", "must not be set together with filter_subjects")
    for one in filters:
        _check("filter_subjects", one, subject_problem(one, wildcards=True))
    if len(filters) * len(filters) > _MAX_PAIRS:
        return
    for index, one in enumerate(filters):
        for other in filters[:index]:
            if is_subset(one, other) or is_subset(other, one):
                raise JetStreamConfigError("filter_subjects", one, f"must not overlap with {other!r}")


def _check_push(config: ConsumerConfig) -> None:
    _check("deliver_subject", config.deliver_subject, subject_problem(config.deliver_subject))
    if config.deliver_group:
        _check("deliver_group", config.deliver_group, subject_problem(config.deliver_group))
    _refuse_set(config, ("max_waiting",), "must not be set for a push consumer (with a deliver_subject)")
    if config.ack_policy == AckPolicy.NONE and config.max_ack_pending > 0:
        _refuse(config, "max_ack_pending", "must not be set with AckPolicy.NONE")
    if 0 < config.idle_heartbeat < SHORTEST_HEARTBEAT:
        _refuse(config, "idle_heartbeat", f"must be at least {SHORTEST_HEARTBEAT} s")
    if config.flow_control and not config.idle_heartbeat:
        _refuse(config, "flow_control", "must be set together with idle_heartbeat")


def _check_pull(config: ConsumerConfig) -> None:
    fields = ("rate_limit_bps", "idle_heartbeat", "flow_control")
    _refuse_set(config, fields, "must not be set for a pull consumer (without a deliver_subject)")
    if 0 < config.max_expires < SHORTEST_EXPIRES:
        _refuse(config, "max_expires", f"must be 0 for no limit, or at least {SHORTEST_EXPIRES} s")


def _check_priority(config: ConsumerConfig) -> None:
    if config.priority_policy == PriorityPolicy.NONE:
        _refuse_set(config, ("priority_groups", "priority_timeout"), "must not be set without a priority_policy")
        return
    if config.deliver_subject:
        _refuse(config, "priority_policy", "must not be set for a push consumer (with a deliver_subject)")
    if not config.priority_groups:
        _refuse(config, "priority_groups", "must have a name when there is a priority_policy")
    for group in config.priority_groups:
        _check("priority_groups", group, group_problem(group))


def _check_flow_control_acks(config: ConsumerConfig) -> None:
    if not config.deliver_subject:
        _refuse(config, "deliver_subject", "must be set with AckPolicy.FLOW_CONTROL")
    if config.max_ack_pending < 0:
        _refuse(config, "max_ack_pending", "must not be without a limit with AckPolicy.FLOW_CONTROL")
    _refuse_set(config, ("ack_wait", "backoff"), "must not be set with AckPolicy.FLOW_CONTROL")
    if config.max_deliver > 0:
        _refuse(config, "max_deliver", "must not be set with AckPolicy.FLOW_CONTROL")
