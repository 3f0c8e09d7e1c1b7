"""What a target's answer means for a message."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from pynats_twisted.bridge.webhook_client import Answer

RETRYABLE: Final = frozenset({408, 425, 429})
"""Answers of the class 4xx that may be others the next time. All of 5xx may."""

GONE: Final = 410


class Action(Enum):
    """What is done with a message."""

    ACK = "ack"
    RETRY = "retry"
    DEAD = "dead letter"
    GONE = "gone"


class Verdict(NamedTuple):
    """What an answer means.

    :ivar action: what is done with the message.
    :ivar target_failed: the target itself failed, not this message with it: counted by the breaker.
    :ivar reason: why, in words; empty for success.
    """

    action: Action
    target_failed: bool
    reason: str


def judge(answer: Answer, attempt: int, permanent_limit: Callable[[int], int]) -> Verdict:
    """What is done after an attempt.

    :param attempt: which one it was, from 1.
    :param permanent_limit: attempts at a message that is refused for good with a status.
    """
    status = answer.status
    if answer.is_success:
        return Verdict(Action.ACK, False, "")
    if not status or answer.error:
        return Verdict(Action.RETRY, True, f"{answer.error} (status {status})" if status else answer.error)
    reason = f"the target answered {status}"
    if status >= 500 or status in RETRYABLE:
        return Verdict(Action.RETRY, True, reason)
    if status == GONE:
        return Verdict(Action.GONE, False, reason)
    if status < 400:
        return Verdict(Action.DEAD, False, f"{reason}, a redirect, which is not followed")
    return Verdict(Action.DEAD if attempt >= permanent_limit(status) else Action.RETRY, False, reason)
