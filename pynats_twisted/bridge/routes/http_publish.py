"""``http-publish``: an HTTP request becomes a NATS message; the response says that it is safe, as far as ``confirm`` goes.

Made for webhooks: signatures are verified over the raw body, and an id of the sender can become the ``Nats-Msg-Id`` by which a
stream drops repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from pynats_twisted.bridge.confirm import ServerConfirmer
from pynats_twisted.bridge.interfaces import IDryRun, IRouteFactory
from pynats_twisted.bridge.message_ids import MessageIds, request_sequence, request_value
from pynats_twisted.bridge.problem import (
    BAD_BATCH,
    BAD_SIGNATURE,
    BAD_VALUE,
    BATCH_TOO_LARGE,
    CONFIRM_TIMEOUT,
    NOT_CONFIRMED,
    Response,
)
from pynats_twisted.bridge.routes.http_common import HTTPRoute, encode_json
from pynats_twisted.bridge.routes.http_publish_config import HTTPPublishConfig, normal_source
from pynats_twisted.bridge.stream_answers import stream_answer
from pynats_twisted.bridge.verify import SignatureError
from pynats_twisted.errors import JetStreamError, NatsError, StreamNotFoundError, TemplateValueError

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http_message import HTTPRequest
    from pynats_twisted.jetstream.api import PubAck
    from pynats_twisted.protocol.headers import Headers

MSG_ID_HEADER: Final = "Nats-Msg-Id"

_JSON: Final = [(b"Content-Type", b"application/json")]


@implementer(IDryRun)
class HTTPPublishRoute(HTTPRoute):
    """One ``http-publish`` route."""

    type_name = "http-publish"
    config: HTTPPublishConfig

    def __init__(self, name: str, config: HTTPPublishConfig, context: RouteContext) -> None:
        super().__init__(name, config, context)
        self._verifier = config.verify.verifier(context) if config.verify is not None else None
        self._ids = MessageIds(name, config.effective_dedupe)
        self._has_users = config.auth is not None and len(config.auth.basic) > 1
        self._lazy_confirmer: ServerConfirmer | None = None

    @property
    def _confirmer(self) -> ServerConfirmer:
        if self._lazy_confirmer is None:
            self._lazy_confirmer = ServerConfirmer(self.context.reactor, self.client, self.config.timeout)
        return self._lazy_confirmer

    def guarantee(self) -> str:
        """What a caller may rely on, in words."""
        config = self.config
        if config.confirm == "none":
            return (
                f"at most once: {config.ok_status} means that the message is in the bridge's buffer; it is lost when the bridge or "
                "its connection ends before it is sent"
            )
        if config.confirm == "server":
            return (
                f"{config.ok_status} means that the NATS server has the message; who is subscribed gets it, it is not stored. After "
                "503 and 504 it may have been published"
            )
        again = (
            "a sender that tries again after 503 and 504 with the same id stores it once, within the duplicate window of the stream"
            if config.effective_dedupe not in ("request", "none")
            else "a sender that tries again after 503 and 504 stores it at least once"
        )
        return (
            f"{config.ok_status} means that a stream has stored the message (200: that it had it already), on as many servers as the "
            f"stream has replicas, which write to their disks as their sync_interval says; {again}"
        )

    def dry_run(self) -> Deferred[list[str]]:
        """What about the stream would keep messages from being confirmed, or from being stored once."""
        return Deferred.fromCoroutine(self._look_at_stream())

    async def _look_at_stream(self) -> list[str]:
        config = self.config
        if config.confirm != "jetstream":
            return []
        js = self.context.jetstream(config.nats)
        try:
            stream = (await (await js.stream(await js.stream_name_by_subject(self._template.pattern))).info()).config
        except StreamNotFoundError:
            return []  # told for all routes
        found: list[str] = []
        if stream.no_ack:
            found.append(f"stream {stream.name} acknowledges nothing (no_ack), so that no message would be confirmed")
        wanted = config.expected.stream if config.expected is not None else None
        if wanted is not None and wanted != stream.name:
            found.append(f"expected.stream is {wanted}, and {stream.name} has the subject")
        if config.effective_dedupe != "none" and 0 < stream.duplicate_window < config.timeout:
            found.append(
                f"stream {stream.name} forgets the ids of messages after {stream.duplicate_window:g} s, and one may be published again "
                f"within timeout, {config.timeout:g} s: it could be stored twice"
            )
        return found

    def forward(self, request: HTTPRequest, subject: str, headers: Headers) -> None:
        """Verify, publish, confirm, answer."""
        body = request.body
        if self._verifier is not None:
            try:
                self._verifier.verify(request.headers, body)
            except SignatureError as error:
                self.context.bad_input(self, f"signature-{error.reason}", f"from {request.peer}")
                request.respond(request.problem(BAD_SIGNATURE))
                return
        messages = self._messages(body)
        if not messages:
            request.respond(request.problem(BAD_BATCH))
            return
        if len(messages) > self.config.max_batch:
            request.respond(request.problem(BATCH_TOO_LARGE, max_messages=self.config.max_batch))
            return
        try:
            user = self._user(request)
            message_id = self._ids.make(request, subject, user)
            expected = self._expected(request, user)
        except TemplateValueError as error:
            request.respond(request.problem(BAD_VALUE, detail=str(error)))
            return
        if self.activity.watched:
            self.activity.hop("received", subject, data=body, headers=headers, request_id=request.request_id)
        if self.config.confirm == "jetstream":
            done = Deferred.fromCoroutine(self._store(request, subject, headers, messages, message_id, expected))
        else:
            done = Deferred.fromCoroutine(self._publish(request, subject, headers, messages, message_id))
        done.addErrback(request.failed)

    def _messages(self, body: bytes) -> Sequence[bytes]:
        if self.config.batch == "none":
            return (body,)
        # One more than allowed is enough to know that there are too many; an empty line more or less is no matter.
        lines = (line.rstrip(b"\r") for line in body.split(b"\n"))
        return [line for line in lines if line.strip()]

    def _user(self, request: HTTPRequest) -> str:
        if not self._has_users or self._auth is None:
            return ""
        return self._auth.user(request.headers.get(b"authorization", ()))

    def _expected(self, request: HTTPRequest, user: str) -> dict[str, Any]:
        """What the publish asks of the stream, as keywords."""
        section = self.config.expected
        if section is None:
            return {}
        asked: dict[str, Any] = {}
        if section.stream is not None:
            asked["expected_stream"] = section.stream
        for key in ("last_seq", "last_subject_seq"):
            wanted: int | str | None = getattr(section, key)
            if wanted is not None:
                asked[f"expected_{key}"] = wanted if isinstance(wanted, int) else request_sequence(request, normal_source(wanted))
        if section.last_msg_id is not None:
            value = request_value(request, normal_source(section.last_msg_id))
            asked["expected_last_msg_id"] = self._ids.of_value(value, user)
        return asked

    # --- confirm = "jetstream" ----------------------------------------------------------------------------------

    async def _store(
        self,
        request: HTTPRequest,
        subject: str,
        headers: Headers,
        messages: Sequence[bytes],
        message_id: str,
        expected: dict[str, Any],
    ) -> None:
        js = self.context.jetstream(self.config.nats)
        size, count, timeout = len(request.body), len(messages), self.config.timeout
        waiting: list[Deferred[PubAck]] = []
        failed: NatsError | None = None
        try:
            for number, message in enumerate(messages, start=1):
                one_id: str | None = None
                if message_id:
                    one_id = message_id if count == 1 else f"{message_id}:{number}"
                if number > 1:
                    await js.publish_async_room()
                waiting.append(js.publish_async(subject, message, headers, msg_id=one_id, timeout=timeout, **expected))
        except NatsError as error:
            failed = error
        acks: list[PubAck] = []
        # Each ends in time by itself. All are waited for, as each has an error of its own, and the sender wants the number.
        for one in waiting:
            try:
                acks.append(await one)
            except NatsError as error:
                if failed is None:
                    failed = error
        duplicates = 0 if self._ids.is_own else sum([ack.duplicate for ack in acks])
        self.metrics.messages_out.inc(len(acks))
        if duplicates:
            self.metrics.duplicates.inc(duplicates)
        if failed is not None:
            details = {"published": len(acks)} if count > 1 else {}
            request.respond(self._not_stored(request, failed, bool(waiting), details))
            return
        self.metrics.bytes_out.inc(size)
        last = acks[-1]
        all_known = duplicates == count
        content: dict[str, Any] = {"stream": last.stream, "seq": last.seq, "duplicate": all_known}
        if count > 1 or self.config.batch != "none":
            content.update(messages=count, duplicates=duplicates)
        if self.activity.watched:
            self.activity.hop("stored", subject, size=size, stream=last.stream, seq=last.seq, request_id=request.request_id)
        request.respond(Response(200 if all_known else self.config.ok_status, _JSON, encode_json(content)))

    def _not_stored(self, request: HTTPRequest, error: NatsError, sent: bool, details: dict[str, Any]) -> Response:
        """The response for messages that were not confirmed.

        :param sent: some may have gone out; False: the client would not even take the first.
        """
        answer = stream_answer(error) if sent or isinstance(error, JetStreamError) else None
        if answer is None:
            response = self.nats_problem(request, error, NOT_CONFIRMED, CONFIRM_TIMEOUT, **details)
            if response is None:
                raise error
            return response
        return self.make_problem(request, answer.problem, error, answer.hint, **answer.details, **details)

    # --- confirm = "none" and "server" --------------------------------------------------------------------------

    async def _publish(self, request: HTTPRequest, subject: str, headers: Headers, messages: Sequence[bytes], message_id: str) -> None:
        size = len(request.body)
        confirmer = self._confirmer if self.config.confirm == "server" else None
        ticket = confirmer.ticket(subject) if confirmer is not None else None
        confirmed: Deferred[None] | None = None
        published = 0
        try:
            for number, message in enumerate(messages, start=1):
                if message_id:
                    headers[MSG_ID_HEADER] = message_id if len(messages) == 1 else f"{message_id}:{number}"
                sent = self.client.publish(subject, message, headers=headers)
                published = number
                if number < len(messages):
                    await sent
            if confirmer is not None and ticket is not None:
                confirmed = confirmer.confirm(ticket)
            await sent
            if confirmed is not None:
                await confirmed
        except NatsError as error:
            details = {"published": published} if len(messages) > 1 else {}
            response = self.nats_problem(request, error, NOT_CONFIRMED, CONFIRM_TIMEOUT, **details)
            if response is None:
                raise
            request.respond(response)
            return
        finally:
            if confirmer is not None and ticket is not None:
                confirmer.discard(ticket)
            if confirmed is not None:
                confirmed.addErrback(lambda _: None)  # nobody else hears of it when something before it failed
        self.metrics.messages_out.inc(published)
        self.metrics.bytes_out.inc(size)
        content = {"confirm": self.config.confirm, "messages": published}
        request.respond(Response(self.config.ok_status, _JSON, encode_json(content)))


@implementer(IRouteFactory)
class HTTPPublishFactory:
    """Makes ``http-publish`` routes."""

    type_name = HTTPPublishRoute.type_name
    config_type = HTTPPublishConfig

    def make_route(self, name: str, config: Any, context: Any) -> HTTPPublishRoute:
        """A route, not started."""
        return HTTPPublishRoute(name, config, context)


factory = HTTPPublishFactory()
