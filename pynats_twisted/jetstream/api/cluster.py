"""Which servers have a stream or a consumer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .enums import RetentionPolicy
from .fields import SECONDS, TIME, UNSIGNED, ApiObject, choice, listed, nested, wire


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Placement(ApiObject):
    """Where servers are to put something.

    :ivar cluster: the name of a cluster.
    :ivar tags: tags that the servers have to have, all of them.
    :ivar preferred: the server that is to lead; for stepping down only, streams cannot have it.
    """

    cluster: str = ""
    tags: Sequence[str] = ()
    preferred: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PeerInfo(ApiObject):
    """A server that has a replica.

    :ivar current: it was seen lately and has everything.
    :ivar offline: it was not seen lately.
    :ivar active: seconds since it was seen.
    :ivar lag: operations that it is behind.
    :ivar peer: its id in the cluster.
    :ivar pending: it is assigned and not yet a member (server 2.15).
    """

    name: str = ""
    current: bool = False
    offline: bool = False
    active: float = field(default=0.0, metadata=wire(SECONDS))
    lag: int = field(default=0, metadata=wire(UNSIGNED))
    peer: str = ""
    pending: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ReconfigurationOrigin(ApiObject):
    """What a stream or consumer was before the change that is going on.

    :ivar retention: the retention that stays in force until the change is done, or None.
    """

    replicas: int = 0
    placement: Placement | None = field(default=None, metadata=wire(nested(Placement)))
    retention: RetentionPolicy | str | None = field(default=None, metadata=wire(choice(RetentionPolicy)))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ReconfigurationStatus(ApiObject):
    """What a change is waiting for.

    :ivar type: a fixed word: ``meta``, ``membership``, ``snapshot``, ``catchup``, ``quorum``, ``blocked``, ``unavailable``.
    :ivar err: a failure that does not go away by itself.
    """

    description: str = ""
    type: str = ""
    err: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class DesiredClusterInfo(ApiObject):
    """Where a change that is going on leads to (server 2.15)."""

    name: str = ""
    replicas: Sequence[PeerInfo] = field(default=(), metadata=wire(listed(nested(PeerInfo))))
    origin: ReconfigurationOrigin | None = field(default=None, metadata=wire(nested(ReconfigurationOrigin)))
    status: ReconfigurationStatus | None = field(default=None, metadata=wire(nested(ReconfigurationStatus)))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ClusterInfo(ApiObject):
    """The servers that have a stream or a consumer.

    :ivar name: the cluster's name.
    :ivar leader: the name of the server that leads, or ``""`` while there is none.
    :ivar leader_since: since when, where the server says so.
    :ivar replicas: the other servers.
    :ivar desired: where a change that is going on leads to, or None.
    """

    name: str = ""
    raft_group: str = ""
    leader: str = ""
    leader_since: datetime | None = field(default=None, metadata=wire(TIME))
    system_account: bool = False
    traffic_account: str = ""
    replicas: Sequence[PeerInfo] = field(default=(), metadata=wire(listed(nested(PeerInfo))))
    desired: DesiredClusterInfo | None = field(default=None, metadata=wire(nested(DesiredClusterInfo)))
