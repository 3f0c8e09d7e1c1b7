"""Single pulls, in virtual time."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.fetch import Fetch
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_options import GroupOptions
from tests.jetstream.pull_peer import INFO, NEXT, PullTestCase

NOT_FOUND = b'{"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}'


class FetchTestCase(PullTestCase):
    """Every fetch leaves nothing behind."""

    def fetch(self, batch: int = 3, **options: Any) -> Deferred[list[JsMsg]]:
        fetched = self.consumer.fetch(batch, **options)
        self.network.advance()
        return fetched

    def texts(self, fetched: Deferred[list[JsMsg]]) -> list[bytes]:
        self.network.advance()
        return [msg.data for msg in self.successResultOf(fetched)]

    def tearDown(self) -> None:
        self.network.advance(0.1)
        self.assertEqual(self.inboxes(), [], "an inbox is left")


class FetchTests(FetchTestCase):
    """How a fetch ends."""

    def test_all(self) -> None:
        """It fires as soon as all have come."""
        fetched = self.fetch(3)
        self.assertEqual(self.pulls(), [{"batch": 3, "expires": 30 * 10**9, "idle_heartbeat": 5 * 10**9}])
        self.deliver(b"a", b"b")
        self.assertNoResult(fetched)
        self.deliver(b"c")
        self.assertEqual(self.texts(fetched), [b"a", b"b", b"c"])

    def test_some(self) -> None:
        """It fires with what has come when the server ends the pull: also with nothing, which is no error."""
        for status in ("408 Request Timeout", "404 No Messages", "409 Batch Completed", "408 Interest Expired"):
            fetched = self.fetch(3)
            self.deliver(b"a")
            self.status(status, messages=2, size=0)
            self.assertEqual(self.texts(fetched), [b"a"])
            fetched = self.fetch(3)
            self.status(status, messages=3, size=0)
            self.assertEqual(self.texts(fetched), [])

    def test_short_one_has_no_heartbeat(self) -> None:
        """Below ten seconds there is no heartbeat, unless one is wanted."""
        self.fetch(expires=9.0).cancel()
        self.fetch(expires=9.0, heartbeat=2.0).cancel()
        self.fetch(expires=60.0, heartbeat=0).cancel()
        self.assertEqual([pull.get("idle_heartbeat") for pull in self.pulls()], [None, 2 * 10**9, None])
        self.ignore_cancelled()

    def ignore_cancelled(self) -> None:
        gc.collect()
        self.flushLoggedErrors(CancelledError)

    def test_bytes(self) -> None:
        """With a bound of bytes it ends as well when these are used up to the last one, which the server does not say."""
        fetched = self.fetch(100, max_bytes=10_000)
        (pull,) = self.pulls()
        self.assertEqual((pull["batch"], pull["max_bytes"]), (100, 10_000))
        size = len("orders.new") + len("$JS.ACK.S.C.1.1.1.1700000000000000000.0")
        self.deliver(b"x" * (10_000 - size))
        self.assertEqual(len(self.successResultOf(fetched)), 1)

    def test_no_wait(self) -> None:
        """``no_wait`` takes what there is."""
        fetched = self.fetch(3, no_wait=True)
        self.assertEqual(self.pulls(), [{"batch": 3, "no_wait": True}])
        self.deliver(b"a")
        self.status("404 No Messages")
        self.assertEqual(self.texts(fetched), [b"a"])

    def test_refused(self) -> None:
        """What can never succeed has its error."""
        for status, kind in (
            ("409 Consumer Deleted", errors.ConsumerDeletedError),
            ("409 Consumer is push based", errors.PullRefusedError),
            ("400 Bad Request - x", errors.PullRefusedError),
            ("409 Exceeded MaxWaiting", errors.PullRefusedError),
            ("409 Exceeded MaxRequestExpires of 5s", errors.PullRefusedError),
            ("409 Message Size Exceeds MaxBytes", errors.PullRefusedError),
            ("412 Required Api Level", errors.JetStreamApiLevelError),
        ):
            fetched = self.fetch()
            self.status(status)
            self.assertIs(self.failureResultOf(fetched).type, kind)

    def test_what_has_come_is_not_lost_to_an_error(self) -> None:
        """Messages that came before something went wrong are the result: they wait for their acks."""
        fetched = self.fetch()
        self.deliver(b"a")
        self.status("409 Consumer Deleted")
        self.assertEqual(self.texts(fetched), [b"a"])

    def test_no_answer(self) -> None:
        """A second after its time it is over, whatever the server does; late messages are given back."""
        fetched = self.fetch(expires=5.0)
        self.pulls()
        self.network.advance(5.9)
        self.assertNoResult(fetched)
        self.server.answer_pings = False
        self.network.advance(0.1)
        self.failureResultOf(fetched, errors.NoHeartbeatError)
        (session,) = self.server.sessions
        (sid,) = [each.sid for each in self.client.subscriptions]
        session.send(b"MSG orders.new %d $JS.ACK.S.C.1.9.9.1700000000000000000.0 1\r\nx\r\n" % sid)
        self.assertEqual(self.acks(), [(9, b"-NAK")])
        self.server.answer_pings = True
        self.network.run(self.client.close())

    def test_missing_heartbeats(self) -> None:
        """After two missing heartbeats it is given up long before its time."""
        fetched = self.fetch(expires=60.0)
        self.network.advance(5.0)
        self.status("100 Idle Heartbeat")
        self.network.advance(9.9)
        self.assertNoResult(fetched)
        self.network.advance(1.0)
        self.failureResultOf(fetched, errors.NoHeartbeatError)

    def test_nobody_takes_pulls(self) -> None:
        """Whether the consumer is gone, or nobody leads it now, is found out."""
        self.server._responders.clear()
        self.server.respond(INFO, self._asked_for_info)
        fetched = self.fetch()
        self.failureResultOf(fetched, errors.JetStreamUnavailableError)
        self.info = NOT_FOUND
        self.failureResultOf(self.fetch(), errors.ConsumerDeletedError)

    def test_leadership_change(self) -> None:
        """It asks the new leader for the time that is left."""
        fetched = self.fetch(expires=8.0)
        self.pulls()
        self.network.advance(2.0)
        self.status("409 Leadership Change")
        self.network.advance(0.25)
        (pull,) = self.pulls()
        self.assertEqual(round(pull["expires"] / 10**9, 3), 5.75)
        self.deliver(b"a", b"b", b"c")
        self.assertEqual(len(self.successResultOf(fetched)), 3)

    def test_heartbeat_that_does_not_fit_any_more(self) -> None:
        """Asking again with less than two heartbeats left is done without: the server would refuse it."""
        fetched = self.fetch(expires=12.0)
        self.pulls()
        self.network.advance(4.0)
        self.status("409 Server Shutdown", messages=3, size=0)
        self.network.advance(0.25)
        (pull,) = self.pulls()
        self.assertNotIn("idle_heartbeat", pull)
        self.deliver(b"a", b"b", b"c")
        self.successResultOf(fetched)

    def test_nothing_is_kept(self) -> None:
        """A fetch that is over is forgotten by the client."""
        group = GroupOptions()
        fetch = Fetch(self.consumer, 1, max_bytes=0, expires=5.0, heartbeat=0.0, no_wait=False, group=group)
        fetched = fetch.start()
        self.deliver(b"a")
        self.successResultOf(fetched)
        kept = weakref.ref(fetch)
        del fetch, fetched
        self.network.advance(1.0)
        gc.collect()
        self.assertIsNone(kept())

    def test_cancel(self) -> None:
        """Cancelling gives back what has come, and what still comes."""
        fetched = self.fetch()
        self.deliver(b"a", b"b")
        fetched.cancel()
        self.failureResultOf(fetched, CancelledError)
        self.assertEqual(self.acks(), [(1, b"-NAK"), (2, b"-NAK")])

    def test_wrong_values(self) -> None:
        """Values that break a rule are named, and nothing is sent."""
        wrong: list[dict[str, Any]] = [
            {"batch": 0},
            {"batch": 1.5},
            {"expires": 0},
            {"expires": -1},
            {"max_bytes": 0},
            {"heartbeat": 16.0},
            {"heartbeat": 1.0, "no_wait": True},
            {"priority": 1},
            {"group": "a", "priority": 10},
        ]
        for options in wrong:
            batch = options.pop("batch", 1)
            error = self.assertRaises(errors.NatsError, self.consumer.fetch, batch, **options)
            self.assertIsInstance(error, ValueError)
        self.assertEqual(self.pulls(), [])

    def test_next(self) -> None:
        """``next`` gives one message, or says that there was none."""
        found = self.consumer.next(timeout=2.0)
        self.assertEqual(self.pulls(), [{"batch": 1, "expires": 2 * 10**9}])
        self.deliver(b"a")
        self.assertEqual(self.successResultOf(found).data, b"a")
        found = self.consumer.next()
        self.status("408 Request Timeout", messages=1, size=0)
        error = self.failureResultOf(found, errors.NextMessageTimeoutError).value
        self.assertIn("within 5 s", str(error))


class ConnectionTests(FetchTestCase):
    """Over losses of the connection."""

    def outage(self) -> None:
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance(0.5)

    def over(self) -> None:
        self.network.accept("127.0.0.1:4222")
        self.network.advance(10.0)

    def test_short_outage(self) -> None:
        """Nothing had come: it asks again, on another inbox, for the time that is left."""
        fetched = self.fetch(expires=20.0)
        self.pulls()
        first = self.replies[-1]
        self.network.advance(4.0)
        self.cut()
        (pull,) = self.pulls()
        self.assertLessEqual(pull["expires"], 16 * 10**9)
        self.assertNotEqual(self.replies[-1].rpartition(".")[0], first.rpartition(".")[0])
        self.deliver(b"a", b"b", b"c")
        self.assertEqual(len(self.successResultOf(fetched)), 3)

    def test_two_reasons_to_ask_again(self) -> None:
        """A change of the leader and a lost connection at the same time: one pull."""
        fetched = self.fetch(expires=20.0)
        self.status("409 Leadership Change")
        self.cut()
        self.assertEqual(len(self.pulls()), 1)
        self.deliver(b"a", b"b", b"c")
        self.assertEqual(len(self.successResultOf(fetched)), 3)

    def test_long_outage(self) -> None:
        """An outage longer than its time: an error, in time, and no pull is left to be sent after it."""
        fetched = self.fetch(expires=2.0)
        self.pulls()
        self.outage()
        self.network.advance(2.4)
        self.assertNoResult(fetched)
        self.network.advance(0.1)
        self.failureResultOf(fetched, errors.DisconnectedError)
        self.over()
        self.assertEqual(self.pulls(), [])

    def test_begun_in_an_outage(self) -> None:
        """It waits for the connection, and nothing is put into the reconnect buffer."""
        self.outage()
        fetched = self.fetch(expires=2.0)
        self.assertEqual(self.client.pending_bytes, 0)
        self.network.advance(3.0)
        self.failureResultOf(fetched, errors.DisconnectedError)
        self.over()
        self.assertEqual(self.pulls(), [])

    def test_what_came_before(self) -> None:
        """What had come is the result, at once."""
        fetched = self.fetch(expires=20.0)
        self.deliver(b"a")
        self.outage()
        self.assertEqual(self.texts(fetched), [b"a"])
        self.over()

    def test_client_is_closed(self) -> None:
        """The end of the client ends it."""
        fetched = self.fetch()
        self.network.run(self.client.close())
        self.network.advance()
        self.failureResultOf(fetched, errors.ConnectionClosedError)
        self.assertRaises(errors.ConnectionClosedError, self.consumer.fetch, 1)

    def test_pulls_are_denied(self) -> None:
        """A client that may not pull is told."""
        fetched = self.fetch()
        self.server.error(f'Permissions Violation for Publish to "{NEXT}"')
        self.network.advance(0.1)
        self.failureResultOf(fetched, errors.PermissionsViolationError)

    def test_inbox_is_denied(self) -> None:
        """A client that may not have its inbox is told."""
        fetched = self.fetch()
        (inbox,) = self.inboxes()
        self.server.error(f'Permissions Violation for Subscription to "{inbox}"')
        self.network.advance(0.1)
        self.failureResultOf(fetched, errors.PermissionsViolationError)
