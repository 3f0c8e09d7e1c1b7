"""What a NATS user may publish and subscribe to, as the server says, and whether patterns of subjects are within that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pynats_twisted.bridge.flow_graph import patterns_meet
from pynats_twisted.errors import NatsError

if TYPE_CHECKING:
    from pynats_twisted.client.client import NatsClient

USER_INFO: Final = "$SYS.REQ.USER.INFO"
"""Servers from 2.10 on answer it with what the user who asks may do."""

USER_INFO_TIMEOUT: Final = 2.0


@dataclass(frozen=True)
class Permission:
    """What may be done in one direction.

    :ivar allow: patterns of what is allowed; None for everything.
    :ivar deny: patterns of what is denied all the same.
    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    def problem(self, pattern: str) -> str | None:
        """Why not all subjects of *pattern* are allowed, in words, or None."""
        denied = next((deny for deny in self.deny if patterns_meet(deny, pattern)), None)
        if denied is not None:
            return f"{denied} is denied"
        if self.allow is None or any(pattern_covers(allow, pattern) for allow in self.allow):
            return None
        return f"allowed are only {', '.join(sorted(self.allow)) or 'no subjects'}"


@dataclass(frozen=True)
class Permissions:
    """What a user may do.

    :ivar user: the user.
    :ivar account: the account.
    """

    user: str
    account: str
    publish: Permission
    subscribe: Permission


def pattern_covers(wide: str, narrow: str) -> bool:
    """Whether *wide* matches every subject that *narrow* matches."""
    ours, theirs = wide.split("."), narrow.split(".")
    for index, our in enumerate(ours):
        if our == ">":
            return len(theirs) > index
        if index >= len(theirs) or theirs[index] == ">" or (our != "*" and our != theirs[index]):
            return False
    return len(ours) == len(theirs)


async def ask_permissions(client: NatsClient) -> Permissions | None:
    """What the user of a client may do, or None where the server does not tell."""
    try:
        answer = await client.request(USER_INFO, b"", timeout=USER_INFO_TIMEOUT)
        return _read(json.loads(answer.data))
    except (NatsError, ValueError, TypeError, AttributeError, KeyError):
        # An old server, a user who may not ask, or somebody else who answers: nothing is known then.
        return None


def _read(document: dict[str, Any]) -> Permissions:
    data = document["data"]
    permissions = data.get("permissions") or {}
    return Permissions(
        str(data.get("user", "")), str(data["account"]), _direction(permissions.get("publish")), _direction(permissions.get("subscribe"))
    )


def _direction(found: dict[str, Any] | None) -> Permission:
    if not found:
        return Permission()
    allow: Sequence[str] | None = found.get("allow")
    # "subject queue" stands for a queue subscription; the subject is what counts here.
    subjects = tuple(text.split(" ")[0] for text in allow) if allow else None
    return Permission(subjects, tuple(text.split(" ")[0] for text in found.get("deny") or ()))
