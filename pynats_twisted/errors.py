"""Every error that this package raises: one tree, rooted in :class:`NatsError`.

The branches say whose fault it was and what may be done about it:

* :class:`ConfigurationError`, :class:`InvalidArgumentError`: the caller passed something that breaks a rule. Nothing was sent.
* :class:`ConnectionStateError` and :class:`ConnectionClosedError`: the call came at the wrong time.
* :class:`ProtocolError`: the peer sent bytes that are not NATS. The connection is dead.
* :class:`ServerError`: the server said ``-ERR``. Its class attributes say whether the connection survives it.
* :class:`TransportError`: the way to the server failed.
* :class:`JetStreamError`: JetStream; what the server refused there is a :class:`JetStreamApiError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class NatsError(Exception):
    """The base of all errors of this package."""

    @property
    def message(self) -> str:
        """The text of the error."""
        return str(self)


# --- wrong input ---------------------------------------------------------------------------------------------


class ConfigurationError(NatsError, ValueError):
    """An option, a URL or a credential cannot be used; the text names it and the rule it breaks."""


class InvalidURLError(ConfigurationError):
    """A server URL breaks a rule. The text never contains the URL's password or token."""


class MixedSchemesError(ConfigurationError):
    """WebSocket (``ws``, ``wss``) and plain (``nats``, ``tls``) servers cannot be in one pool."""


class CredentialsError(ConfigurationError):
    """Credentials are missing, unreadable or malformed. The text never contains them."""


class ConfigError(ConfigurationError):
    """A configuration file of the bridge cannot be used. The text has one line for each problem.

    :ivar problems: everything that is wrong with it; each a :class:`pynats_twisted.bridge.config_errors.Problem`.
    """

    def __init__(self, problems: Sequence[Any]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


class TemplateError(ConfigurationError):
    """A subject template breaks a rule; the text names the template and the rule."""


class MissingDependencyError(NatsError, ImportError):
    """A feature needs an extra that is not installed; the text names the ``pip install`` that brings it."""


class InvalidArgumentError(NatsError, ValueError):
    """A value passed to a call breaks a rule of the protocol; nothing was sent."""


class InvalidSubjectError(InvalidArgumentError):
    """A subject, a reply subject or an inbox prefix is not valid, here or in the server's opinion."""


class TemplateValueError(InvalidArgumentError):
    """A value cannot be put into a subject template. The text names the placeholder and the rule, never the value.

    :ivar name: the placeholder, or an empty text where the subject as a whole is to blame.
    :ivar reason: a fixed word for the rule: ``missing``, ``empty``, ``too-long``, ``forbidden-character``, ``not-utf-8``,
        ``bad-percent-encoding``, ``reserved`` or ``subject-too-long``.
    """

    def __init__(self, name: str, reason: str, rule: str) -> None:
        super().__init__(f"value for {{{name}}}: {rule}" if name else rule)
        self.name = name
        self.reason = reason


class InvalidQueueError(InvalidArgumentError):
    """A queue group name is empty or holds white space or control characters."""


class InvalidHeaderError(InvalidArgumentError):
    """A header name or value cannot be sent (ADR-4)."""


class InvalidSubscriptionError(InvalidArgumentError):
    """A subscription id or limit is not usable, or no subscription has it."""


class MaxPayloadExceededError(InvalidArgumentError):
    """Headers and payload together are larger than the server's ``max_payload``."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"headers and payload take {size} bytes, the server accepts {limit}")
        self.size = size
        self.limit = limit


class HeadersNotSupportedError(NatsError):
    """The server said in its INFO that it does not support headers."""


class MessageNotRepliableError(NatsError):
    """``respond`` was called on a message that has no reply subject."""


# --- wrong time ----------------------------------------------------------------------------------------------


class ConnectionStateError(NatsError):
    """A call is not legal in the state that the connection is in; nothing was changed."""

    def __init__(self, call: str, state: Any) -> None:
        super().__init__(f"{call}() is not allowed in state {getattr(state, 'name', state)}")
        self.call = call
        self.state = state


class NotConnectedError(ConnectionStateError):
    """The call needs an established connection."""


class ConnectionAlreadyStartedError(ConnectionStateError):
    """The call belongs to the start of a connection, which is past."""


class NoServerSelectedError(ConnectionStateError):
    """The call needs a server, and ``select_server()`` has not been called."""


class ConnectionDeadError(ConnectionStateError):
    """The connection ended, or died of a protocol error, and takes no more calls until a server is selected again."""


class ConnectionServerPoolEmpty(NatsError):
    """No server is left to try: every one was removed after too many attempts, or none was given."""


class ConnectionClosedError(NatsError):
    """The client was closed for good, by ``close()``, by ``drain()``, or because it gave up reconnecting."""


class ConnectionDrainingError(NatsError):
    """The client is draining and takes no new subscriptions, requests or (in its last phase) publishes."""


class ConcurrentUseError(NatsError):
    """A blocking client was called by two threads at a time, from inside a call of its own, or in a process that was forked off.

    Nothing was done. Each thread and each process needs a client of its own.
    """


class SubscriptionClosedError(NatsError):
    """The subscription has ended and every message that it had was handed out."""


class DisconnectedError(NatsError):
    """The connection was lost while the call waited for the server; ``__cause__`` says why when it is known."""


class OutboundBufferFullError(NatsError):
    """A publish found the outbound buffer (or, while disconnected, the reconnect buffer) at its bound; nothing was buffered."""

    def __init__(self, pending: int, size: int, limit: int) -> None:
        super().__init__(f"{pending} bytes are waiting, {size} more would pass the bound of {limit}")
        self.pending = pending
        self.size = size
        self.limit = limit


class TooManyRequestsError(NatsError):
    """The bound of requests in flight (``max_requests_in_flight``) is reached."""


class SlowConsumerError(NatsError):
    """A subscription with ``overflow="error"`` had more messages waiting than it may."""

    def __init__(self, subject: str, pending_msgs: int, pending_bytes: int) -> None:
        super().__init__(f"subscription {subject!r} is too slow: {pending_msgs} messages ({pending_bytes} bytes) were waiting")
        self.subject = subject
        self.pending_msgs = pending_msgs
        self.pending_bytes = pending_bytes


# --- waiting in vain -----------------------------------------------------------------------------------------


class NatsTimeoutError(NatsError, TimeoutError):
    """Something did not happen in time; also a builtin :class:`TimeoutError`."""


class RequestTimeoutError(NatsTimeoutError):
    """No reply came in time. The request may have been executed."""


class NextMessageTimeoutError(NatsTimeoutError):
    """No message came to a subscription in time."""


class FlushTimeoutError(NatsTimeoutError):
    """The server did not answer a PING in time."""


class DrainTimeoutError(NatsTimeoutError):
    """Draining did not end in time; the connection or subscription was closed all the same."""


class ConnectTimeoutError(NatsTimeoutError):
    """A server did not take the connection to the end of the handshake in time; the text names the phase."""


class NoRespondersError(NatsError):
    """Nobody is subscribed to the subject of a request (status 503)."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody answers on {subject!r}")
        self.subject = subject


# --- what the peer sent --------------------------------------------------------------------------------------


class ProtocolError(NatsError):
    """The peer sent something that is not legal NATS. The connection cannot go on."""


class UnknownOperationError(ProtocolError):
    """A line starts with none of the operations that a server sends."""


class MalformedLineError(ProtocolError):
    """The arguments of a known operation are wrong in number or form."""


class LineTooLongError(ProtocolError):
    """A line, or what came of it so far without its end, is longer than its bound."""


class MessageTooLargeError(ProtocolError):
    """A message announces more bytes than the client accepts."""


class MissingTerminatorError(ProtocolError):
    """A payload is not followed by CR LF."""


class InvalidInfoError(ProtocolError):
    """An INFO is not a JSON object, or has a known key with a value of the wrong type."""


class UnexpectedMessageError(ProtocolError):
    """The server sent a legal line that has no place in the state of the connection (for example no INFO first)."""


class UntrustedDataError(ProtocolError):
    """Bytes followed the INFO although TLS had to start: they would be taken for encrypted ones."""


# --- what the server said with -ERR --------------------------------------------------------------------------


class ServerError(NatsError):
    """The server reported an error with ``-ERR``. ``text`` is its wording without quotes.

    :cvar closes: the server closes the connection after this error.
    :cvar reconnect: connecting again (to this or another server) makes sense.
    :cvar auth: counts for the rule that the same authentication error twice from one server ends it.
    """

    closes: ClassVar[bool] = False
    reconnect: ClassVar[bool] = True
    auth: ClassVar[bool] = False

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class UnknownServerError(ServerError):
    """An ``-ERR`` that is not in the list of known ones. The connection goes on as long as the server lets it."""


class AuthenticationError(ServerError):
    """The base of what a server says of wrong, late or spent credentials."""

    closes = True
    auth = True


class AuthorizationViolationError(AuthenticationError):
    """The credentials were refused."""


class AuthenticationTimeoutError(AuthenticationError):
    """CONNECT came too late for the server."""


class AuthenticationExpiredError(AuthenticationError):
    """The user's credentials expired; a new connection takes fresh ones."""


class AuthenticationRevokedError(AuthenticationError):
    """The user was revoked."""


class AccountAuthenticationExpiredError(AuthenticationError):
    """The account's credentials expired."""


class AccountRegistrationError(AuthenticationError):
    """The server could not register the connection with its account."""


class CapacityError(ServerError):
    """The base of what a server says when it has no room for a connection; another one may have."""

    closes = True


class MaxConnectionsExceededError(CapacityError):
    """The server has as many connections as it accepts."""


class MaxAccountConnectionsExceededError(CapacityError):
    """The account has as many connections as it may."""


class ConnectionThrottledError(CapacityError):
    """The server takes no new TLS connections at the moment."""


class StaleConnectionError(ServerError):
    """A side did not answer PINGs any more."""

    closes = True


class PermissionsViolationError(ServerError):
    """A publish or a subscription was denied; the connection goes on.

    :ivar operation: ``"publish"``, ``"publish with reply"`` or ``"subscription"``.
    :ivar subject: the subject named by the server (with ``"publish with reply"`` the reply subject).
    :ivar queue: the queue group, or None.
    :ivar sid: the subscription's id where the server gave it (after a reload), or None.
    """

    def __init__(self, text: str, operation: str, subject: str, queue: str | None = None, sid: int | None = None) -> None:
        super().__init__(text)
        self.operation = operation
        self.subject = subject
        self.queue = queue
        self.sid = sid


class MaxSubscriptionsExceededError(ServerError):
    """The connection has as many subscriptions as it may."""


class ServerInvalidSubjectError(ServerError, InvalidSubjectError):
    """The server refused the subject of a subscription."""


class InvalidPublishSubjectError(ServerError, InvalidSubjectError):
    """The server, in pedantic mode, refused the subject of a publish."""


class MaxPayloadViolationError(ServerError):
    """A message was larger than the server's limit, which may have changed since its INFO."""

    closes = True


class MaxControlLineExceededError(ServerError):
    """A line was longer than the server's limit (4,096 bytes by default)."""

    closes = True


class UnknownProtocolOperationError(ServerError):
    """The server did not understand what it was sent."""

    closes = True


class SecureConnectionRequiredError(ServerError):
    """The server accepts TLS only."""

    closes = True


class WrongPortError(ServerError):
    """The port is one for routes, gateways, leaf nodes or something else, not for clients."""

    closes = True
    reconnect = False


class ConnectRefusedError(ServerError):
    """The server refused the options in CONNECT (protocol version, no-responders without headers)."""

    closes = True
    reconnect = False


# --- the way to the server -----------------------------------------------------------------------------------


class TransportError(NatsError):
    """The transport to a server failed; ``__cause__`` has the transport's own error."""


class TLSError(TransportError):
    """TLS was wanted and could not be had: verification, handshake, or a server that does not offer it."""


class TLSNotAvailableError(TLSError):
    """TLS is required by an option, a URL or the pool's history, and the server does not offer it. Nothing was sent to it."""


class NoServersError(NatsError):
    """No server could be connected to.

    :ivar reasons: what went wrong, one ``(server, error)`` for each attempt that counts, oldest first; ``server`` is a
        URL without credentials.
    """

    def __init__(self, reasons: Sequence[tuple[str, BaseException]]) -> None:
        listed = "; ".join(f"{server}: {type(error).__name__}: {error}" for server, error in reasons)
        super().__init__(f"no server could be connected to: {listed or 'the pool is empty'}")
        self.reasons = list(reasons)


# --- JetStream -----------------------------------------------------------------------------------------------


class JetStreamError(NatsError):
    """The base of everything that goes wrong with JetStream."""


class JetStreamConfigError(JetStreamError, ConfigurationError):
    """A configuration or request breaks a rule; nothing was sent.

    :ivar field: which field of it, ``mirror.name`` for one inside another.
    :ivar value: what the field has.
    :ivar rule: the rule it breaks.
    """

    def __init__(self, field: str, value: Any, rule: str) -> None:
        shown = repr(value)
        super().__init__(f"{field}={shown if len(shown) <= 80 else shown[:80] + '…'}: {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class InvalidNameError(JetStreamError, InvalidArgumentError):
    """The name of a stream, a consumer, a domain or a priority group breaks a rule (ADR-6); nothing was sent."""


class JetStreamDecodeError(JetStreamError):
    """What came as an answer of JetStream is not one: damaged, of the wrong kind, or with a value of the wrong type."""


class NotJetStreamMessageError(JetStreamError):
    """A message was not delivered by a consumer: its reply subject is not one for acks."""


class MessageAlreadyAckedError(JetStreamError):
    """A message was acked, refused or given up before: that is done once. Nothing was sent."""


class MessageRejectedError(JetStreamError):
    """Raised by a handler of yours to say that a message can never be handled; :class:`~pynats_twisted.jetstream.dead_letters.DeadLetters`
    makes a dead letter of it. The text is the reason."""


class ConsumerDeletedError(JetStreamError):
    """The consumer, or its stream, was deleted while messages were asked of it."""


class PullRefusedError(JetStreamError):
    """The server refused to deliver messages, and would again: the request contradicts the consumer's configuration.

    :ivar status: the status of its answer, 400 or 409.
    :ivar text: its words.
    """

    def __init__(self, consumer: str, status: int, text: str) -> None:
        super().__init__(f"consumer {consumer!r} refused a pull: {text or 'without a reason'} (status {status})")
        self.status = status
        self.text = text


class NoHeartbeatError(JetStreamError, NatsTimeoutError):
    """Neither messages nor a sign of life came from the consumer in time. Asking again makes sense."""


class PublishUnconfirmedError(JetStreamError):
    """No ack came for a publish: it is unknown whether it was stored. Publishing again with the same message id stores it once.

    :ivar subject: where it was published.
    """

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"publish to {subject!r}: {reason}; it is unknown whether it was stored")
        self.subject = subject


class PublishTimeoutError(PublishUnconfirmedError, RequestTimeoutError):
    """No ack came for a publish in time. It may have been stored."""


class PublishDisconnectedError(PublishUnconfirmedError, DisconnectedError):
    """The connection was lost before the ack for a publish came, and it could not be sent again. It may have been stored."""


class NoStreamResponseError(JetStreamError, NoRespondersError):
    """No stream took a publish (status 503): none has its subject, none of its servers is there, or JetStream is off. It was not stored."""

    def __init__(self, subject: str) -> None:
        NatsError.__init__(self, f"no stream takes what is published to {subject!r}, or JetStream is off")
        self.subject = subject


class TooManyStalledMsgsError(JetStreamError):
    """A publish waited in vain for one of the earlier ones to be acked: the window of ``publish_async`` is full. It was not sent.

    :ivar pending: publishes without an ack.
    """

    def __init__(self, subject: str, pending: int) -> None:
        super().__init__(f"publish to {subject!r}: {pending} publishes wait for their acks, and no room came in time; it was not sent")
        self.subject = subject
        self.pending = pending


class StreamRecreatedError(JetStreamError):
    """A stream that was being read is not what it was: it stands before what was read of it already, so it was deleted and made anew."""


class JetStreamApiLevelError(JetStreamError):
    """The server is too old for a feature (ADR-44); the text names the feature.

    :ivar required: the API level that the feature needs, None where only the server knows.
    :ivar available: the server's API level, None where it was not asked.
    :ivar features: what needs a higher level than the server's.
    """

    def __init__(self, text: str, required: int | None = None, available: int | None = None, features: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.required = required
        self.available = available
        self.features = tuple(features)


class BatchClosedError(JetStreamError):
    """A batch takes nothing more: it was committed or discarded, or it has failed, then ``__cause__`` says why. Nothing was sent."""


class FastIngestError(JetStreamError):
    """A batch of fast ingest (ADR-50) ended before its time. What was stored by then stays stored.

    :ivar acked: the server had all messages up to this one, counted from 1; of those behind it nothing is known.
    :ivar sent: the last message that was sent.
    """

    def __init__(self, text: str, acked: int, sent: int) -> None:
        super().__init__(f"{text}; the server had the messages up to {acked} of the {sent} that were sent")
        self.acked = acked
        self.sent = sent


class FastIngestGapError(FastIngestError):
    """Messages were lost on their way, and the batch was not to go on over gaps. ``acked`` is the last one that was stored."""


class FastIngestDisconnectedError(FastIngestError, DisconnectedError):
    """The connection was lost, and the batch with it."""


class FastIngestTimeoutError(FastIngestError, NatsTimeoutError):
    """The server did not go on with the batch in time."""


class JetStreamApiError(JetStreamError):
    """The server refused a JetStream request or publish. Only the two codes are stable between servers (ADR-7).

    :cvar err_codes: the ``err_code`` values that this class stands for; none for a mere base.
    :ivar code: like an HTTP status: 400 the request is to blame, 404 not found, 409 conflict, 429 too many, 500, 503 try later.
    :ivar err_code: the number of the error, 0 when the server sent none.
    :ivar description: the server's words.
    """

    err_codes: ClassVar[tuple[int, ...]] = ()

    def __init__(self, code: int, err_code: int = 0, description: str = "") -> None:
        super().__init__(f"{description or 'the server gave no reason'} (code {code}, err_code {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class JetStreamNotEnabledError(JetStreamApiError):
    """JetStream is off, on the server or for the account; with ``err_code`` 0 nobody answered on the API's subject (status 503),
    which a wrong domain or API prefix causes too."""

    err_codes: ClassVar[tuple[int, ...]] = (10039, 10076)


class JetStreamUnavailableError(JetStreamApiError):
    """The cluster has no leader, or is otherwise not able to answer right now; trying again later makes sense."""

    err_codes: ClassVar[tuple[int, ...]] = (10004, 10007, 10008, 10009)


class RequiredApiLevelError(JetStreamApiError, JetStreamApiLevelError):
    """The server said that its API level is below the one that the request named."""

    err_codes: ClassVar[tuple[int, ...]] = (10185,)


class JetStreamBadRequestError(JetStreamApiError):
    """The server does not know the request, or misses something in it."""

    err_codes: ClassVar[tuple[int, ...]] = (10003,)


class InvalidJsonError(JetStreamBadRequestError):
    """The server could not read the request; typical for a field that it is too old for."""

    err_codes: ClassVar[tuple[int, ...]] = (10025,)


class JetStreamLimitError(JetStreamApiError):
    """A limit of the account or the server is reached."""

    err_codes: ClassVar[tuple[int, ...]] = (10002, 10023, 10028, 10047, 10053, 10120, 10121, 10122, 10125)


class MaximumStreamsError(JetStreamLimitError):
    """The account has as many streams as it may."""

    err_codes: ClassVar[tuple[int, ...]] = (10027,)


class MaximumConsumersError(JetStreamLimitError):
    """The stream or the account has as many consumers as it may."""

    err_codes: ClassVar[tuple[int, ...]] = (10026,)


class StreamNotFoundError(JetStreamApiError):
    """There is no such stream."""

    err_codes: ClassVar[tuple[int, ...]] = (10059,)


class StreamNameInUseError(JetStreamApiError):
    """There is a stream of this name, with another configuration."""

    err_codes: ClassVar[tuple[int, ...]] = (10058,)


class StreamOfflineError(JetStreamApiError):
    """The server has the stream and cannot run it."""

    err_codes: ClassVar[tuple[int, ...]] = (10118, 10194)


class SealedStreamError(JetStreamApiError):
    """The stream is sealed: nothing can be added or removed."""

    err_codes: ClassVar[tuple[int, ...]] = (10109,)


class StreamReconfiguringError(JetStreamApiError):
    """The stream is being moved or scaled, and takes no other such change meanwhile."""

    err_codes: ClassVar[tuple[int, ...]] = (10123, 10124, 10226)


class ConfigRefusedError(JetStreamApiError):
    """The server refused a configuration. These codes it uses for streams and for consumers."""

    err_codes: ClassVar[tuple[int, ...]] = (10052, 10074, 10133, 10157)


class StreamConfigRefusedError(ConfigRefusedError):
    """The server refused the configuration of a stream, of its mirror or of one of its sources."""

    err_codes: ClassVar[tuple[int, ...]] = (
        *(10021, 10022, 10024, 10030, 10031, 10032, 10033, 10034, 10046, 10049, 10055, 10056, 10061, 10069),
        *(10113, 10128, 10140, 10141, 10142, 10143, 10144, 10145, 10146, 10147, 10150, 10151, 10152, 10154, 10155, 10156),
        *(10173, 10186, 10187, 10198, 10209, 10213, 10214, 10215, 10216, 10217),
    )


class SubjectOverlapError(StreamConfigRefusedError):
    """Another stream has one of the subjects."""

    err_codes: ClassVar[tuple[int, ...]] = (10065,)


class ConsumerNotFoundError(JetStreamApiError):
    """There is no such consumer, or an update found none."""

    err_codes: ClassVar[tuple[int, ...]] = (10014, 10149)


class ConsumerNameInUseError(JetStreamApiError):
    """There is a consumer of this name, with another configuration."""

    err_codes: ClassVar[tuple[int, ...]] = (10013, 10148)


class ConsumerActiveError(ConsumerNameInUseError):
    """There is a push consumer of this name, and somebody is subscribed to its deliver subject."""

    err_codes: ClassVar[tuple[int, ...]] = (10105,)


class ConsumerOfflineError(JetStreamApiError):
    """The server has the consumer and cannot run it."""

    err_codes: ClassVar[tuple[int, ...]] = (10119, 10195)


class ConsumerConfigRefusedError(ConfigRefusedError):
    """The server refused the configuration of a consumer."""

    err_codes: ClassVar[tuple[int, ...]] = (
        *(10012, 10016, 10017, 10018, 10019, 10020, 10078, 10079, 10080, 10081, 10082, 10083, 10084, 10085, 10086, 10087, 10088),
        *(10089, 10090, 10091, 10092, 10094, 10095, 10098, 10099, 10100, 10101, 10102, 10103, 10106, 10107, 10108, 10112, 10114),
        *(10115, 10116, 10126, 10127, 10132, 10134, 10135, 10153, 10181, 10182, 10183, 10184, 10218, 10219, 10220, 10221, 10222),
    )


class ConsumerFilterError(ConsumerConfigRefusedError):
    """The filter subjects of a consumer contradict each other, the stream or the request's subject."""

    err_codes: ClassVar[tuple[int, ...]] = (10093, 10131, 10136, 10137, 10138, 10139)


class PriorityGroupError(ConsumerConfigRefusedError):
    """A priority group is unknown or not allowed there (ADR-42)."""

    err_codes: ClassVar[tuple[int, ...]] = (10159, 10160, 10161, 10162, 10178, 10196, 10197)


class ConsumerResetError(JetStreamApiError):
    """A consumer cannot be reset to that sequence (ADR-60)."""

    err_codes: ClassVar[tuple[int, ...]] = (10204,)


class StreamIdentityError(JetStreamApiError):
    """The stream was deleted and made again since its identity was learnt."""

    err_codes: ClassVar[tuple[int, ...]] = (10225,)


class MessageNotFoundError(JetStreamApiError):
    """The stream has no such message."""

    err_codes: ClassVar[tuple[int, ...]] = (10037, 10043)


class TooManyResultsError(JetStreamApiError):
    """A direct get asked for the last messages of more subjects than the server answers with at once (1,024)."""


class MessageDeleteError(JetStreamApiError):
    """A message could not be deleted, for example because the stream never had it."""

    err_codes = (10057,)


class WrongStreamError(JetStreamApiError):
    """A publish was stored nowhere, because another stream than the expected one has its subject."""

    err_codes: ClassVar[tuple[int, ...]] = (10060,)


class WrongLastMessageIdError(JetStreamApiError):
    """A publish was not stored: the stream's last message has another id than expected."""

    err_codes: ClassVar[tuple[int, ...]] = (10070,)


class WrongLastSequenceError(JetStreamApiError):
    """A publish was not stored: the last sequence, of the stream or of the subject, is another than expected.

    Both codes say the same; which one comes depends on the stream's replicas.
    """

    err_codes: ClassVar[tuple[int, ...]] = (10071, 10164)

    @property
    def last_sequence(self) -> int | None:
        """The actual last sequence, where the server's words have it (10071 only)."""
        number = self.description.rpartition(" ")[2]
        return int(number) if self.err_code == 10071 and len(number) <= 20 and number.isascii() and number.isdigit() else None


class ExpectationNotReadyError(JetStreamApiError):
    """A publish was not stored: the server cannot check the expected last sequence of the subject right now. Trying again makes sense."""

    err_codes: ClassVar[tuple[int, ...]] = (10163,)


class InvalidExpectationError(JetStreamApiError):
    """A publish was not stored: it names the subject of an expected last sequence, and no sequence."""

    err_codes: ClassVar[tuple[int, ...]] = (10193,)


class DuplicateInProcessError(JetStreamApiError):
    """A publish was not stored: one with the same message id is being stored right now."""

    err_codes: ClassVar[tuple[int, ...]] = (10158,)


class StreamStoreError(JetStreamApiError):
    """A publish was not stored; the text says why: the stream is full and discards new messages, or the disk failed."""

    err_codes: ClassVar[tuple[int, ...]] = (10077,)


class MessageExceedsMaximumError(JetStreamApiError):
    """A publish was not stored: the message or its headers are larger than the stream accepts."""

    err_codes: ClassVar[tuple[int, ...]] = (10054, 10097)


class JetStreamTooManyRequestsError(JetStreamApiError):
    """A publish was not stored, or a direct get not answered: more wait for the stream than the server keeps."""

    err_codes: ClassVar[tuple[int, ...]] = (10167,)


class SourceHeaderError(JetStreamApiError):
    """A publish was not stored: it has the header that marks messages sourced from another stream."""

    err_codes: ClassVar[tuple[int, ...]] = (10227,)


class MessageTTLError(JetStreamApiError):
    """A publish was not stored: its TTL is not valid (ADR-43), or the stream does not allow any (10166)."""

    err_codes: ClassVar[tuple[int, ...]] = (10165, 10166)


class CounterError(JetStreamApiError):
    """A publish was not stored: a rule of counters (ADR-49) is broken, or the stream has none (10168)."""

    err_codes: ClassVar[tuple[int, ...]] = (10168, 10169, 10170, 10171, 10172)


class ScheduleError(JetStreamApiError):
    """A publish was not stored: a rule of schedules (ADR-51) is broken, or the stream has none (10188)."""

    err_codes: ClassVar[tuple[int, ...]] = (10188, 10189, 10190, 10191, 10192, 10203, 10212, 10223)


class AtomicBatchError(JetStreamApiError):
    """An atomic batch was not stored (ADR-50): it breaks a rule, or the stream allows none (10174)."""

    err_codes: ClassVar[tuple[int, ...]] = (10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201)


class TooManyAtomicBatchesError(AtomicBatchError):
    """As many atomic batches are open as the stream or the server accepts."""

    err_codes: ClassVar[tuple[int, ...]] = (10210,)


class FastBatchError(JetStreamApiError):
    """A batch of fast ingest was refused (ADR-50): it breaks a rule, or the stream allows none (10205)."""

    err_codes: ClassVar[tuple[int, ...]] = (10205, 10206, 10207)


class UnknownFastBatchError(FastBatchError):
    """The server does not know the batch, or no longer."""

    err_codes: ClassVar[tuple[int, ...]] = (10208,)


class TooManyFastBatchesError(FastBatchError):
    """As many batches are open as the stream or the server accepts."""

    err_codes: ClassVar[tuple[int, ...]] = (10211,)


# --- key-value buckets and object stores ---------------------------------------------------------------------


class BucketNotFoundError(JetStreamError):
    """There is no bucket or object store of this name, or what has its name is none."""


class BucketExistsError(JetStreamError):
    """There is a bucket or object store of this name already, with another configuration."""


# --- key-value -----------------------------------------------------------------------------------------------


class KeyValueError(JetStreamError):
    """The base of what goes wrong with the keys of a bucket."""


class InvalidKeyError(KeyValueError, InvalidArgumentError):
    """A key, or a pattern of keys, breaks a rule (ADR-8); nothing was sent."""


class KeyNotFoundError(KeyValueError):
    """There is no such key, or not with this revision.

    :ivar key: which one.
    """

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


class KeyDeletedError(KeyNotFoundError):
    """The key was deleted or purged, or its time has run out.

    :ivar entry: the :class:`~pynats_twisted.keyvalue.KeyValueEntry` that says so.
    """

    def __init__(self, key: str, text: str, entry: Any) -> None:
        super().__init__(key, text)
        self.entry = entry


class KeyExistsError(KeyValueError):
    """A key was not created: it has a value.

    :ivar key: which one.
    """

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


class LockLostError(KeyValueError):
    """A lock is not held any more: it ran out, somebody else has it, it was given back, or the client was closed. ``__cause__`` says more
    where more is known. A write that raises this was not stored.

    :ivar name: which lock.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"the lock {name!r} is not held: {text}")
        self.name = name


class LockTimeoutError(KeyValueError, NatsTimeoutError):
    """A lock was not to be had in time, or a write under a lock could not be stored in time; ``__cause__`` says why when it is known.

    :ivar name: which lock.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"the lock {name!r} {text}")
        self.name = name


class KeyValueCodecError(KeyValueError):
    """A stored key or value is none that the bucket's codec makes; the codec's own error is the ``__cause__`` where it has one."""


class SnapshotError(KeyValueError):
    """A snapshot of a bucket could not be taken: it was written to faster than it was read, or no server was up to date in time."""


class KeyValueCacheFullError(KeyValueError):
    """What a cache is to hold is more than it may hold; it holds nothing any more."""


# --- object stores -------------------------------------------------------------------------------------------


class ObjectStoreError(JetStreamError):
    """The base of what goes wrong with objects."""


class ObjectNotFoundError(ObjectStoreError):
    """There is no such object, or it was deleted.

    :ivar name: which one.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class ObjectExistsError(ObjectStoreError):
    """The name is taken by an object that is not to be replaced.

    :ivar name: which one.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class ObjectChangedError(ObjectStoreError):
    """Others changed the object each time that a change was tried; it was not made. Trying again makes sense.

    :ivar name: which one.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class ObjectLinkError(ObjectStoreError, InvalidArgumentError):
    """A link breaks a rule of ADR-20: it would lead to another link or to a deleted object, or what it leads to is no object."""


class ObjectSourceError(ObjectStoreError):
    """What an object was to be made of gave no bytes, or not as many as it said. Nothing was stored."""


class ObjectTimeoutError(ObjectStoreError, NatsTimeoutError):
    """For too long the server stored nothing more of an object that is being put; ``__cause__`` says why. Nothing is left of it."""


class ObjectOrderError(ObjectStoreError):
    """The chunks of an object were not stored in their order: others came in between. Nothing is left of it."""


class ObjectIncompleteError(ObjectStoreError):
    """An object has more or fewer bytes or chunks than the store says: it was replaced or deleted meanwhile, or its chunks have expired.

    :ivar name: which one.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class ObjectDigestError(ObjectStoreError):
    """The bytes of an object are not those that were put: their digest is another one, or cannot be checked.

    :ivar name: which one; :ivar expected: the digest that the store says; :ivar actual: that of the bytes.
    """

    def __init__(self, name: str, text: str, expected: str, actual: str) -> None:
        super().__init__(text)
        self.name = name
        self.expected = expected
        self.actual = actual


class ObjectStoppedError(ObjectStoreError):
    """The reading of an object was stopped before its end."""


# --- services ------------------------------------------------------------------------------------------------


class ServiceConfigError(ConfigurationError):
    """The configuration of a service, a group or an endpoint breaks a rule (ADR-32)."""


class ServiceNotFoundError(NatsError):
    """No instance of a service answered, or too few of them, or none has the endpoint that was asked for.

    :ivar name: the service.
    :ivar endpoint: the endpoint; ``""`` where the service itself was looked for.
    """

    def __init__(self, name: str, text: str, endpoint: str = "") -> None:
        super().__init__(text)
        self.name = name
        self.endpoint = endpoint


class ServiceResponseError(NatsError):
    """A service answered a request with an error (ADR-32).

    :ivar code: its code; 0 where what came is not a number.
    :ivar description: its text, which is meant for people.
    :ivar response: the whole answer, a :class:`~pynats_twisted.protocol.message.Msg`: it may have data and more headers. None where there
        is none.
    """

    def __init__(self, code: int, description: str, response: Any = None) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.response = response


class ServiceDecodeError(NatsError):
    """What came as an answer to a ``$SRV`` request is not one: no JSON, of another type, or with a value of the wrong type."""


class ServiceStoppedError(NatsError):
    """The service stops or has stopped, and takes no new endpoints."""


class RequestAnsweredError(NatsError):
    """A request to a service got an answer, or the last part of one, already."""


class ServiceError(NatsError):
    """What a service's handler raises to answer with an error: the caller gets both values in the reply's headers (ADR-32).

    :param code: a whole number of at least 1; those of HTTP are the custom.
    :param description: for the caller to read; not empty. Line breaks in it are sent as spaces.
    :param data: the payload of the reply.
    :param headers: more headers of the reply.
    :raises InvalidArgumentError: the code or the description breaks its rule.
    """

    def __init__(self, code: int, description: str, data: bytes | bytearray | memoryview = b"", headers: Any = None) -> None:
        if not isinstance(code, int) or isinstance(code, bool) or code < 1:
            raise InvalidArgumentError(f"code={code!r} of a service error must be a whole number of at least 1")
        if not isinstance(description, str) or not description.strip():
            raise InvalidArgumentError(f"description={description!r} of a service error must be a text that is not empty")
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.data = data
        self.headers = headers


# --- the testing kit -----------------------------------------------------------------------------------------


class ServerProcessError(NatsError):
    """A nats-server that the testing kit runs did not start, stop, reload or answer as it was told to.

    :ivar log: the end of the server's log, which is also the end of the error's text; empty when there is none.
    """

    def __init__(self, text: str, log: str = "") -> None:
        super().__init__(f"{text}\nThe end of the server's log:\n{log}" if log else text)
        self.log = log
