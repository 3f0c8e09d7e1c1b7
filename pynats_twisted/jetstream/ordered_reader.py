"""The way of an ordered consumer to the server: makes and deletes its consumers, pulls, and watches for silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.logger import Logger

from ..client.status import Closed, Connected, Disconnected, Reconnected, StatusEvent
from ..errors import (
    ConsumerNotFoundError,
    DisconnectedError,
    NatsError,
    NotJetStreamMessageError,
    RequestTimeoutError,
)
from ..protocol.subjects import LiteralSubject, random_token
from .api import ConsumerConfig, ConsumerInfo, DeliverPolicy, NextRequest, StreamInfo, encode, parse_ack_subject
from .consumer_create import ask_for_consumer
from .message import ACK_PREFIX
from .ordered_deletions import Deletions, tell
from .ordered_state import Action, Create, Delete, OrderedState, Phase, Wait
from .pull_statuses import StatusKind, read_status
from .pulls import PullPlan, Pulls

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..client.subscription import Subscription
    from ..protocol.message import Msg
    from .context import JetStreamContext

# Seconds for a consumer to be made that takes another's place.
_CREATE_TIMEOUT = 2.0
# Who waits until everything is deleted waits so long at most.
_CLEANING = 5.0

_TOKENS = 9

_LAST_CONSUMER = "Nats-Last-Consumer"
_MAX_DIGITS = 19

# After these a pull is over, and the next one may do better with the same consumer.
_GO_ON = frozenset({StatusKind.ENDED, StatusKind.TOO_LARGE, StatusKind.BUSY})
_HOPELESS = frozenset({StatusKind.REFUSED, StatusKind.API_LEVEL})


class OrderedReader:
    """Reads a stream, and gives each message to ``deliver``, in order.

    Messages come until the plan's bounds are reached; those that were handed out are to be told by :meth:`release`.

    :param config: of the consumers; the name is not used.
    :param deliver: gets each message, and its sequence in the stream.
    :param progressed: called when the server has said how much is still stored.
    :param ended: called once when it is over for good, with the error or None.

    :ivar state: where it stands.
    :ivar is_draining: somebody waits until everything that is stored was read: the server is asked when it is silent.
    """

    _log = Logger()

    def __init__(
        self,
        js: JetStreamContext,
        stream: str,
        config: ConsumerConfig,
        plan: PullPlan,
        *,
        deliver: Callable[[Msg, int], None],
        progressed: Callable[[], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self._js = js
        self._client = js.client
        self._reactor = js.client.reactor
        self._stream = stream
        self._config = config
        self._plan = plan
        # What the consumer of now reads is chosen by its subject, not by its place.
        self._is_choosing = False
        self._deliver = deliver
        self._progressed = progressed
        self._ended = ended
        self.state = OrderedState(random_token())
        self.is_draining = False
        self._pulls = Pulls(plan, self._reactor.seconds())
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._is_performing = False
        self._is_listening = False
        self._take_back: Callable[[], None] | None = None
        # The timer that looks for silence, and the one of a wait.
        self._watch: IDelayedCall | None = None
        self._wait: IDelayedCall | None = None
        self._seen = 0
        # Requests that are under way: consumers that are made, by their names.
        self._creating: dict[str, Deferred[None]] = {}
        self._deletions = Deletions(js, stream)
        self._asking: Deferred[None] | None = None

    # --- what is wanted --------------------------------------------------------------------------------------

    @property
    def is_reading(self) -> bool:
        """There is a consumer, and messages come from it."""
        return self._subscription is not None and self.state.phase is Phase.READING

    def begin(self) -> None:
        """Read, from where the state stands. Does nothing when it reads already."""
        if self.state.phase is not Phase.IDLE:
            return
        if not self._is_listening:
            self._is_listening = True
            self._client.add_listener(self._status)
            self._take_back = self._client.before_close(self._say_it_is_left)
        self.state.begin(self._client.is_connected)
        self._perform()

    def stop(self) -> Deferred[None]:
        """Read no more until :meth:`begin`. Fires when the consumers are deleted, or could not be in a bounded time."""
        self.state.stop()
        self._unlisten()
        self._perform()
        return self._cleaned()

    def release(self, msg: Msg) -> None:
        """A message that was delivered waits here no longer."""
        pulls = self._pulls
        pulls.held -= 1
        pulls.held_bytes -= msg.size
        if pulls.is_low and self.is_reading:
            self._pull()

    def hold(self, msg: Msg) -> None:
        """A message that was released waits here all the same."""
        self._pulls.hold(msg.size)

    def ask(self) -> None:
        """Let the server say how much is still stored; ``progressed`` is called then."""
        name = self.state.name
        if self._asking is None and name is not None and self.is_reading:
            asking = Deferred.fromCoroutine(self._ask(name))
            if not asking.called:
                self._asking = asking

    async def _ask(self, name: str) -> None:
        try:
            info = await self._js.call(ConsumerInfo, self._js.prefix.consumer_info(self._stream, name))
        except ConsumerNotFoundError:
            if name == self.state.name:
                self._lost("the consumer is gone")
        except NatsError as error:
            self._log.debug("Could not ask for consumer {name!r}: {error}", name=name, error=error)
        else:
            self.state.info(name, info.delivered.consumer_seq, info.num_pending)
            self._progressed()
        finally:
            self._asking = None

    # --- doing what the state says ---------------------------------------------------------------------------

    def _perform(self) -> None:
        """Do what the state says, also what it says meanwhile."""
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while True:
                if self.state.phase is not Phase.READING:
                    self._leave()
                if not self.state.actions:
                    break
                for action in self.state.take_actions():
                    self._do(action)
        finally:
            self._is_performing = False

    def _do(self, action: Action) -> None:
        if isinstance(action, Create):
            creating = Deferred.fromCoroutine(self._create(action))
            if not creating.called:
                self._creating[action.name] = creating
        elif isinstance(action, Delete):
            self._deletions.begin(action.name)
        elif isinstance(action, Wait):
            if self.state.phase is Phase.WAITING:
                self._wait = self._reactor.callLater(action.seconds, self._resume)
        else:
            self._unlisten()
            self._ended(action.error)

    def _leave(self) -> None:
        """Let go of what belongs to one consumer, or to a wait for one."""
        if self._wait is not None and self.state.phase is not Phase.WAITING:
            self._wait.cancel()
            self._wait = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._pulls.reset(self._reactor.seconds())
            subscription.unsubscribe()

    def _resume(self) -> None:
        self._wait = None
        self.state.resume()
        self._perform()

    def _lost(self, reason: str) -> None:
        self._log.debug("Ordered consumer {name} of {stream!r}: {reason}", name=self.state.name, stream=self._stream, reason=reason)
        self.state.lost(reason)
        self._perform()

    async def _create(self, action: Create) -> None:
        config = replace(self._config, name=action.name)
        if action.start is not None:
            by_sequence = DeliverPolicy.BY_START_SEQUENCE
            config = replace(config, deliver_policy=by_sequence, opt_start_seq=action.start, opt_start_time=None)
        state = self.state
        asking = Deferred.fromCoroutine(ask_for_consumer(self._js, self._stream, config))
        if action.start is not None:
            # A cluster that has just lost a server may leave the request unanswered: it is made again soon.
            asking.addTimeout(_CREATE_TIMEOUT, self._reactor, _too_late)
        try:
            info = await asking
        except CancelledError:
            state.create_failed(action.name, DisconnectedError("the connection was lost while the consumer was made"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to who reads
            self._log.debug("Could not make consumer {name}: {error}", name=action.name, error=error)
            state.create_failed(action.name, error)
        else:
            # What is the last of its subject is not said by a place in the stream.
            self._is_choosing = config.deliver_policy == DeliverPolicy.LAST_PER_SUBJECT
            state.created(action.name, None if self._is_choosing else info.delivered.stream_seq, info.num_pending)
        self._creating.pop(action.name, None)
        if state.phase is Phase.READING and state.name == action.name:
            self._listen()
        self._perform()
        if self.is_reading and state.name == action.name:
            self._pull()
            self._look_later()
            self._progressed()
            if action.start is not None:
                await self._compare(action.start)

    async def _compare(self, start: int) -> None:
        """Is the stream still the one that it was? A consumer that begins far behind the end of a new one would wait there."""
        try:
            info = await self._js.call(StreamInfo, self._js.prefix.stream_info(self._stream))
        except NatsError as error:
            # Not everybody may ask this.
            self._log.debug("Could not ask for stream {stream!r}: {error}", stream=self._stream, error=error)
            return
        self.state.stream_at(info.state.last_seq, start)
        self._perform()

    def _listen(self) -> None:
        """Subscribe to a new inbox: what is still on its way for the consumer before goes nowhere."""
        self._inbox = self._client.new_inbox()
        try:
            # Each message is taken from it at once: nothing waits there.
            subscription = self._client.subscribe(f"{self._inbox}.*", self._received)
        except NatsError as error:
            self.state.end(error)
            return
        self._subscription = subscription
        subscription.when_closed().addCallback(lambda _: self._unsubscribed(subscription))

    def _unsubscribed(self, subscription: Subscription) -> None:
        if subscription is self._subscription:
            # Denied, or the client ends.
            self._subscription = None
            self.state.end(None if self._client.closed_on_purpose else subscription.error)
            self._perform()

    def _cleaned(self) -> Deferred[None]:
        """Fires when nothing is under way any more, or after the time that this may take."""
        under_way = self._deletions.under_way()
        for creating in self._creating.values():
            waiter: Deferred[None] = Deferred()
            creating.addBoth(tell, waiter)
            under_way.append(waiter)
        if not under_way:
            return succeed(None)
        all_ended = DeferredList(under_way, consumeErrors=True)
        all_ended.addTimeout(_CLEANING, self._reactor, lambda result, seconds: None)
        return all_ended.addCallback(lambda results: None if results is None else self._cleaned())

    # --- what comes ------------------------------------------------------------------------------------------

    def _received(self, msg: Msg) -> None:
        tokens = msg.reply.split(".")
        # All ack subjects that servers send by default have this form; the longer one is read with more care.
        if len(tokens) != _TOKENS or not msg.reply.startswith(ACK_PREFIX):
            self._received_otherwise(msg)
            return
        try:
            stream_seq, consumer_seq, pending = int(tokens[5]), int(tokens[6]), int(tokens[8])
        except ValueError:
            self._received_otherwise(msg)
            return
        self._message_received(msg, tokens[3], stream_seq, consumer_seq, pending)

    def _received_otherwise(self, msg: Msg) -> None:
        if not msg.reply.startswith(ACK_PREFIX):
            self._status_received(msg)
            return
        try:
            metadata = parse_ack_subject(msg.reply)
        except NotJetStreamMessageError:
            self._lost(f"a message came with the reply subject {msg.reply[:80]!r}")
            return
        self._message_received(msg, metadata.consumer, metadata.stream_seq, metadata.consumer_seq, metadata.num_pending)

    def _message_received(self, msg: Msg, consumer: str, stream_seq: int, consumer_seq: int, pending: int) -> None:
        state, pulls = self.state, self._pulls
        size = msg.size
        # As Pulls.has_arrived() and hold() do: each message comes by here.
        pulls.open -= 1
        pulls.open_bytes -= size
        pulls.arrived += 1
        if state.message(consumer, stream_seq, consumer_seq, pending):
            pulls.held += 1
            pulls.held_bytes += size
            self._deliver(msg, stream_seq)
        if state.actions:
            self._perform()

    def _status_received(self, msg: Msg) -> None:
        headers = msg.headers
        status = read_status(msg.status, msg.status_text, headers)
        token = _number(msg.subject.rpartition(".")[2])
        if token is None or not self._pulls.answered(token, status, self._reactor.seconds()):
            return
        if status.kind is StatusKind.HEARTBEAT:
            self.state.heartbeat(_number(headers.get(_LAST_CONSUMER)))
            self._perform()
        elif status.kind in _HOPELESS:
            self.state.end(status.error(self.state.name or ""))
            self._perform()
        elif status.kind not in _GO_ON:
            self._lost(f"the server said {status.code} {status.text}")
        elif status.kind is StatusKind.TOO_LARGE and self._is_choosing:
            # Servers up to 2.15 forget the message that did not fit, of a consumer that reads the last of each subject.
            self._make_room(status.pending_bytes or 0)
            self._lost("a message did not fit into a pull")
        else:
            if status.kind is StatusKind.TOO_LARGE:
                self._make_room(status.pending_bytes or 0)
            self._pull()

    def _make_room(self, offered: int) -> None:
        """The next message is larger than what a pull had left."""
        pulls, plan = self._pulls, self._plan
        if offered >= plan.max_bytes:
            # It is larger than all that may wait here, and let in all the same. That pull was the only one: there was no room for others.
            self._plan = replace(plan, max_bytes=plan.max_bytes * 2, low_bytes=plan.low_bytes * 2)
            self._pulls = Pulls(self._plan, self._reactor.seconds())
            self._pulls.held, self._pulls.held_bytes = pulls.held, pulls.held_bytes

    # --- pulling ---------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        """Ask for as many messages as there is room for."""
        pulls, plan, name = self._pulls, self._plan, self.state.name
        now = self._reactor.seconds()
        while name is not None and self.is_reading and (pull := pulls.wanted(now)) is not None:
            request = NextRequest(batch=pull.messages, max_bytes=pull.bytes, expires=plan.expires, idle_heartbeat=plan.heartbeat)
            subject = LiteralSubject(self._js.prefix.consumer_next(self._stream, name))
            try:
                self._client.publish(subject, encode(request), f"{self._inbox}.{pull.token}")
            except NatsError as error:
                self._log.debug("Could not pull from {name}: {error}", name=name, error=error)
                pulls.not_sent(pull, now)

    def _look_later(self) -> None:
        if self._watch is None:
            self._watch = self._reactor.callLater(self._pulls.wait(self._reactor.seconds()), self._look)

    def _look(self) -> None:
        """Now and then: was there a sign of life in time?"""
        self._watch = None
        pulls = self._pulls
        if pulls.check(self._reactor.seconds()):
            self._lost(f"nothing came for {2 * self._plan.heartbeat:g} s, not even a heartbeat")
            return
        self._pull()
        if self.is_draining and pulls.arrived == self._seen:
            self.ask()
        self._seen = pulls.arrived
        if self.is_reading:
            self._look_later()

    # --- the connection --------------------------------------------------------------------------------------

    def _status(self, event: StatusEvent) -> None:
        if isinstance(event, Disconnected):
            self.state.disconnected()
        elif isinstance(event, (Connected, Reconnected)):
            self.state.connected()
        elif isinstance(event, Closed):
            self.state.end(None if self._client.closed_on_purpose else event.error)
        else:
            return
        # What was asked of the connection before may never be answered.
        for name, creating in list(self._creating.items()):
            if name != self.state.name:
                creating.cancel()
        self._perform()

    def _unlisten(self) -> None:
        if self._is_listening:
            self._is_listening = False
            self._client.remove_listener(self._status)
        if self._take_back is not None:
            self._take_back()
            self._take_back = None

    def _say_it_is_left(self) -> None:
        """The client is about to be closed: its consumers would wait for ``inactive_threshold``."""
        names = {self.state.name, *self._creating}
        for name in names:
            if name is not None:
                self._deletions.tell_server(name)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit() else None


def _too_late(result: Any, seconds: float) -> NoReturn:
    raise RequestTimeoutError(f"the consumer was not made within {seconds:g} s")
