"""What the server says of an account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .fields import UNSIGNED, ApiObject, mapped, nested, wire


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class AccountLimits(ApiObject):
    """What an account, or a tier of it, may have. -1 is without a limit.

    :ivar max_memory: bytes in memory.
    :ivar max_storage: bytes in files.
    :ivar max_ack_pending: what a consumer may have at most.
    :ivar memory_max_stream_bytes: bytes of one stream in memory; 0 too is without a limit, here and in the next.
    :ivar storage_max_stream_bytes: bytes of one stream in files.
    :ivar max_bytes_required: every stream needs a ``max_bytes``.
    """

    max_memory: int = 0
    max_storage: int = 0
    max_streams: int = 0
    max_consumers: int = 0
    max_ack_pending: int = 0
    memory_max_stream_bytes: int = 0
    storage_max_stream_bytes: int = 0
    max_bytes_required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class AccountTier(ApiObject):
    """What an account uses, and may use.

    :ivar memory: bytes that streams have in memory.
    :ivar storage: bytes that streams have in files.
    :ivar reserved_memory: bytes that streams in memory may have, by their ``max_bytes``.
    :ivar reserved_storage: bytes that streams in files may have.
    """

    memory: int = field(default=0, metadata=wire(UNSIGNED))
    storage: int = field(default=0, metadata=wire(UNSIGNED))
    reserved_memory: int = field(default=0, metadata=wire(UNSIGNED))
    reserved_storage: int = field(default=0, metadata=wire(UNSIGNED))
    streams: int = 0
    consumers: int = 0
    limits: AccountLimits = field(default=AccountLimits(), metadata=wire(nested(AccountLimits)))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ApiStats(ApiObject):
    """How the account uses the JetStream API.

    :ivar level: the server's API level; 0 before 2.11.
    :ivar total: requests since its start.
    :ivar errors: of these, the ones that were answered with an error.
    :ivar inflight: requests that are being worked on.
    """

    level: int = 0
    total: int = field(default=0, metadata=wire(UNSIGNED))
    errors: int = field(default=0, metadata=wire(UNSIGNED))
    inflight: int = field(default=0, metadata=wire(UNSIGNED))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class AccountInfo(AccountTier):
    """An account: the sum of its tiers.

    :ivar domain: the server's JetStream domain, or ``""``.
    :ivar tiers: the tiers by their names (``R1``, ``R3``), for an account that has them.
    """

    domain: str = ""
    api: ApiStats = field(default=ApiStats(), metadata=wire(nested(ApiStats)))
    tiers: Mapping[str, AccountTier] = field(default_factory=dict, metadata=wire(mapped(nested(AccountTier))))
    kinds: ClassVar[frozenset[str]] = frozenset({"account_info_response"})
