"""Which server is next, after what wait, and which servers there are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import (
    AuthenticationExpiredError,
    AuthorizationViolationError,
    ConfigurationError,
    ConnectionServerPoolEmpty,
    ConnectRefusedError,
    ConnectTimeoutError,
    InvalidURLError,
    MaxConnectionsExceededError,
    TransportError,
    WrongPortError,
)
from pynats_twisted.protocol.info import ServerInfo
from pynats_twisted.protocol.options import ClientOptions
from pynats_twisted.protocol.servers import MINIMUM_WAIT, Server, ServerPool

REFUSED = TransportError("refused")


def make_pool(servers: str = "a,b,c", seed: int = 1, **options: Any) -> ServerPool:
    """A pool that does not shuffle, unless it is told to."""
    options.setdefault("shuffle_servers", False)
    return ServerPool(ClientOptions(servers=servers, **options), random.Random(seed))


def gossip(*entries: str, **keys: Any) -> ServerInfo:
    return ServerInfo(connect_urls=entries, **keys)


def fail(pool: ServerPool, error: BaseException = REFUSED) -> Server:
    """One attempt that fails."""
    server = pool.select()
    pool.failed(server, error)
    return server


def connect(pool: ServerPool, *, stable: bool = True) -> Server:
    """One attempt that leads to a connection."""
    server = pool.select()
    pool.connected(server)
    if stable:
        pool.stable(server)
    return server


def hosts(servers: object) -> str:
    assert isinstance(servers, (list, tuple))
    return " ".join(server.host for server in servers)


class OrderTests(SynchronousTestCase):
    """The order in which servers are tried."""

    def test_given_order(self) -> None:
        """Without shuffling the servers are tried in the order in which they were given, again and again."""
        pool = make_pool()
        self.assertEqual(hosts([fail(pool) for _ in range(7)]), "a b c a b c a")

    def test_shuffled(self) -> None:
        """By default the order is random, and every server is in it; so many clients do not all choose the same one."""
        firsts = set()
        for seed in range(40):
            pool = make_pool("a,b,c,d", seed, shuffle_servers=True)
            self.assertEqual(sorted(hosts(pool.servers).split()), ["a", "b", "c", "d"])
            firsts.add(pool.select().host)
        self.assertEqual(firsts, {"a", "b", "c", "d"})

    def test_default_randomness(self) -> None:
        """Without a source of randomness given, two pools do not have the same order for ever."""
        options = ClientOptions(servers=[f"h{number}" for number in range(20)])
        self.assertGreater(len({hosts(ServerPool(options).servers) for _ in range(5)}), 1)

    def test_lost_server_goes_to_the_end(self) -> None:
        """The server whose connection was lost is tried last; the next one is tried at once."""
        pool = make_pool()
        first = connect(pool)
        pool.lost(first)
        self.assertEqual(hosts(pool.servers), "b c a")
        self.assertEqual(pool.delay_before_next(), 0)
        self.assertEqual(pool.select().host, "b")

    def test_left_server_goes_to_the_end(self) -> None:
        """A server that we left ourselves is tried last, and gets no blame."""
        pool = make_pool()
        first = connect(pool)
        pool.left(first)
        self.assertEqual(hosts([fail(pool) for _ in range(3)]), "b c a")
        self.assertEqual((first.attempts, first.last_error), (1, REFUSED))

    def test_selecting_without_a_report_moves_on(self) -> None:
        """A caller that reports nothing gets every server in turn."""
        pool = make_pool()
        self.assertEqual(hosts([pool.select() for _ in range(5)]), "a b c a b")

    def test_current(self) -> None:
        """The current server is the selected one, until its attempt or connection has ended."""
        pool = make_pool()
        self.assertIsNone(pool.current)
        first = pool.select()
        self.assertIs(pool.current, first)
        pool.failed(first, REFUSED)
        self.assertIsNone(pool.current)
        second = connect(pool)
        self.assertIs(pool.current, second)
        self.assertTrue(second.did_connect)
        self.assertFalse(first.did_connect)
        pool.lost(second)
        self.assertIsNone(pool.current)

    def test_late_report_of_an_old_connection(self) -> None:
        """When a client has moved on already, the end of its old connection changes nothing for the new one."""
        pool = make_pool()
        old = connect(pool)
        pool.left(old)
        new = connect(pool)
        pool.lost(old, REFUSED)
        self.assertIs(pool.current, new)
        self.assertEqual(old.attempts, 0)
        pool.lost(new)
        self.assertEqual(pool.delay_before_next(), 0)

    def test_empty_pool(self) -> None:
        """When no server is left, selecting raises its own error, at once and every time."""
        pool = make_pool("a", max_reconnect_attempts=0)
        fail(pool)
        for _ in range(2):
            self.assertEqual(pool.delay_before_next(), 0)
            self.assertRaises(ConnectionServerPoolEmpty, pool.select)
        self.assertTrue(pool.round_complete)


class RoundTests(SynchronousTestCase):
    """Rounds, and the waits between them."""

    def waits(self, pool: ServerPool, rounds: int) -> list[float]:
        """The waits after so many rounds in which everything fails; within a round there is none."""
        found = []
        for _ in range(rounds):
            for number in range(len(pool.servers)):
                if number:
                    self.assertEqual(pool.delay_before_next(), 0)
                fail(pool)
            found.append(pool.delay_before_next())
        return found

    def test_no_wait_at_the_start(self) -> None:
        """The first attempt of all waits for nothing."""
        self.assertEqual(make_pool().delay_before_next(), 0)

    def test_waits_between_rounds_only(self) -> None:
        """There is a wait only when every server has failed once; it doubles each time up to its maximum."""
        pool = make_pool(reconnect_jitter=0.0)
        self.assertEqual(self.waits(pool, 9), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0, 4.0])

    def test_options_of_the_wait(self) -> None:
        """First wait, factor and maximum are options."""
        pool = make_pool("a,b", reconnect_wait=1.0, reconnect_wait_factor=3.0, reconnect_wait_max=5.0, reconnect_jitter=0.0)
        self.assertEqual(self.waits(pool, 4), [1.0, 3.0, 5.0, 5.0])

    def test_jitter(self) -> None:
        """A random part of up to the given fraction is added, also to the longest wait."""
        waits = [
            self.waits(make_pool("a", seed, reconnect_wait=1.0, reconnect_wait_max=1.0, reconnect_jitter=0.5), 1)[0] for seed in range(60)
        ]
        self.assertTrue(all(1.0 <= wait < 1.5 for wait in waits))
        self.assertLess(min(waits), 1.1)
        self.assertGreater(max(waits), 1.4)

    def test_jitter_with_tls(self) -> None:
        """With TLS the other jitter is used: by URL, by option, or because the server required it once."""
        options = {"reconnect_wait": 1.0, "reconnect_jitter": 0.0, "reconnect_jitter_tls": 1.0}
        sticky = make_pool("a", **options)
        sticky.servers[0].tls_required_once = True
        for pool in (make_pool("tls://a", **options), make_pool("a", tls=True, **options), make_pool("wss://a", **options), sticky):
            self.assertGreater(self.waits(pool, 1)[0], 1.0)
        self.assertEqual(self.waits(make_pool("a", **options), 1), [1.0])

    def test_the_wait_stays_until_it_is_used(self) -> None:
        """Asking twice for a wait gives the same one."""
        pool = make_pool("a")
        fail(pool)
        self.assertEqual(len({pool.delay_before_next() for _ in range(5)}), 1)

    def test_thousands_of_rounds(self) -> None:
        """The wait stays at its maximum however long it takes."""
        pool = make_pool("a", max_reconnect_attempts=-1, reconnect_jitter=0.0, reconnect_wait_factor=10.0)
        self.assertEqual(self.waits(pool, 3000)[-1], 4.0)

    def test_stable_connection_resets_the_waits(self) -> None:
        """After a connection that stayed up, attempts, waits and reasons start anew, and the next server is tried at once."""
        pool = make_pool("a,b", reconnect_jitter=0.0)
        self.waits(pool, 3)
        server = connect(pool, stable=False)
        self.assertEqual((server.attempts, pool.rounds, len(pool.reasons)), (3, 3, 6))
        pool.stable(server)
        self.assertEqual((server.attempts, server.last_error, pool.rounds, pool.reasons), (0, None, 0, []))
        pool.lost(server)
        self.assertEqual(server.attempts, 0)
        self.assertEqual(self.waits(pool, 2), [0.1, 0.2])

    def test_connection_that_does_not_last(self) -> None:
        """A server that takes connections and drops them at once does not get around the waits: they grow, and its attempts are counted."""
        pool = make_pool("a", reconnect_jitter=0.0, max_reconnect_attempts=5)
        waits = []
        while pool.servers:
            server = connect(pool, stable=False)
            pool.lost(server)
            waits.append(pool.delay_before_next())
        self.assertEqual(waits, [0.1, 0.2, 0.4, 0.8, 1.6, 0])

    def test_left_before_it_was_stable(self) -> None:
        """Leaving a young connection ourselves does not reset the waits either, and counts no attempt."""
        pool = make_pool("a", reconnect_jitter=0.0)
        waits = []
        for _ in range(3):
            server = connect(pool, stable=False)
            pool.left(server)
            waits.append(pool.delay_before_next())
        self.assertEqual((waits, server.attempts), ([0.1, 0.2, 0.4], 0))

    def test_skipping_a_wait(self) -> None:
        """A user who asks for a connection now does not wait, once."""
        pool = make_pool("a", reconnect_jitter=0.0)
        fail(pool)
        pool.skip_wait()
        self.assertEqual(pool.delay_before_next(), 0)
        fail(pool)
        self.assertEqual(pool.delay_before_next(), 0.2)

    def test_own_delay(self) -> None:
        """``reconnect_delay`` is asked once for each round, with 1, 2, 3, ..., and from 1 again after a stable connection."""
        asked = []

        def delay(number: int) -> float:
            asked.append(number)
            return number * 10

        pool = make_pool("a,b", reconnect_delay=delay)
        self.assertEqual(self.waits(pool, 3), [10, 20, 30])
        for _ in range(3):
            pool.delay_before_next()
        self.assertEqual(asked, [1, 2, 3])
        pool.lost(connect(pool))
        self.assertEqual(self.waits(pool, 1), [10])

    def test_a_wait_of_zero_is_no_busy_loop(self) -> None:
        """A wait of 0, from the function or from the options, becomes a short one."""
        for pool in (make_pool("a", reconnect_delay=lambda number: 0), make_pool("a", reconnect_wait=0.0)):
            self.assertEqual(self.waits(pool, 2), [MINIMUM_WAIT] * 2)

    def test_own_delay_that_fails(self) -> None:
        """A ``reconnect_delay`` that raises or returns nonsense is told of, and the built-in wait is used."""

        def broken(number: int) -> float:
            raise LookupError("oops")

        wrong: list[Callable[[int], Any]] = [
            broken,
            lambda number: -1.0,
            lambda number: float("nan"),
            lambda number: "soon",
            lambda number: None,
        ]
        for delay in wrong:
            pool = make_pool("a", reconnect_delay=delay, reconnect_jitter=0.0)
            self.assertEqual(self.waits(pool, 2), [0.1, 0.2])
            self.assertIsInstance(pool.delay_error, Exception)
        self.assertIsNone(make_pool().delay_error)

    def test_round_complete(self) -> None:
        """A first connect can see when each server was tried once, and why none would do."""
        pool = make_pool("nats://u:sesame@a,b")
        seen = [pool.round_complete]
        pool.select()
        seen.append(pool.round_complete)
        pool.failed(pool.servers[0], REFUSED)
        seen.append(pool.round_complete)
        last = pool.select()
        seen.append(pool.round_complete)
        late = ConnectTimeoutError("no INFO")
        pool.failed(last, late)
        seen.append(pool.round_complete)
        self.assertEqual(seen, [False, False, False, False, True])
        self.assertEqual(pool.reasons, [("nats://a:4222", REFUSED), ("nats://b:4222", late)])
        pool.select()
        self.assertFalse(pool.round_complete)

    def test_reasons_are_bounded(self) -> None:
        """Only the last reasons are kept."""
        pool = make_pool("a", max_reconnect_attempts=-1)
        errors = [TransportError(str(number)) for number in range(1000)]
        for error in errors:
            fail(pool, error)
        self.assertEqual([error for _, error in pool.reasons], errors[-128:])


class RemovalTests(SynchronousTestCase):
    """When a server is given up."""

    def test_what_no_attempt_can_change_removes_at_once(self) -> None:
        """A server that refuses the options, or whose port is not for clients, is not tried again; another error is an attempt."""
        for error in (WrongPortError("attempted to connect to route port"), ConnectRefusedError("invalid client protocol")):
            pool = make_pool("nats://a,nats://b")
            server = pool.select()
            self.assertTrue(pool.failed(server, error))
            self.assertNotIn(server, pool.servers)
        pool = make_pool("nats://a,nats://b")
        self.assertFalse(pool.failed(pool.select(), MaxConnectionsExceededError("maximum connections exceeded")))

    def test_too_many_attempts(self) -> None:
        """Attempts are counted for each server; with more than the maximum it leaves, the others stay."""
        pool = make_pool("a,b", max_reconnect_attempts=2)
        for _ in range(2):
            self.assertFalse(pool.failed(pool.select(), REFUSED))
            pool.lost(connect(pool))
        self.assertEqual([server.attempts for server in pool.servers], [2, 0])
        first = pool.select()
        self.assertTrue(pool.failed(first, REFUSED))
        self.assertEqual((first.host, first.last_error, hosts(pool.servers)), ("a", REFUSED, "b"))

    def test_endless_attempts(self) -> None:
        """With -1 a server is never given up."""
        pool = make_pool("a", max_reconnect_attempts=-1)
        for _ in range(500):
            self.assertFalse(pool.failed(pool.select(), REFUSED))

    def test_same_authentication_error_twice(self) -> None:
        """The second equal authentication error removes a server, though its attempts are not used up; others stay."""
        pool = make_pool("a,b")
        self.assertFalse(pool.failed(pool.select(), AuthorizationViolationError("Authorization Violation")))
        fail(pool)
        self.assertTrue(pool.failed(pool.select(), AuthorizationViolationError("Authorization Violation")))
        self.assertEqual(hosts(pool.servers), "b")

    def test_different_authentication_errors(self) -> None:
        """Two different authentication errors do not remove a server."""
        pool = make_pool("a")
        for error in (AuthorizationViolationError("x"), AuthenticationExpiredError("x"), AuthorizationViolationError("x")):
            self.assertFalse(pool.failed(pool.select(), error))
        self.assertIs(pool.servers[0].last_auth_error, AuthorizationViolationError)

    def test_other_errors_in_between(self) -> None:
        """A refused connection between two equal authentication errors says nothing of the credentials: they still are two."""
        pool = make_pool("a")
        fail(pool, AuthorizationViolationError("x"))
        fail(pool)
        self.assertTrue(pool.failed(pool.select(), AuthorizationViolationError("x")))

    def test_stable_connection_between_authentication_errors(self) -> None:
        """After a stable connection an authentication error is a first one again."""
        pool = make_pool("a")
        fail(pool, AuthorizationViolationError("x"))
        server = connect(pool)
        pool.left(server)
        self.assertFalse(pool.failed(pool.select(), AuthorizationViolationError("x")))

    def test_ignoring_authentication_errors(self) -> None:
        """With ``ignore_auth_error_abort`` only the number of attempts counts."""
        pool = make_pool("a", ignore_auth_error_abort=True, max_reconnect_attempts=3)
        removed = [pool.failed(pool.select(), AuthorizationViolationError("x")) for _ in range(4)]
        self.assertEqual(removed, [False, False, False, True])

    def test_credentials_that_expire_now_and_then(self) -> None:
        """Each time that credentials expire on a stable connection is a first time: a client lives for years on short-lived ones."""
        pool = make_pool("a")
        for _ in range(5):
            self.assertFalse(pool.lost(connect(pool), AuthenticationExpiredError("x")))
            self.assertIs(pool.servers[0].last_auth_error, AuthenticationExpiredError)

    def test_expired_credentials_that_are_accepted_once_more(self) -> None:
        """If the connection after an expiry expires again before it was stable, that is the second time: no endless loop."""
        pool = make_pool("a")
        pool.lost(connect(pool), AuthenticationExpiredError("x"))
        self.assertTrue(pool.lost(connect(pool, stable=False), AuthenticationExpiredError("x")))
        self.assertEqual(pool.servers, ())

    def test_lost_connection_tells_its_reason(self) -> None:
        """Why a connection was lost is among the reasons and at the server."""
        for stable in (True, False):
            pool = make_pool("a")
            pool.lost(connect(pool, stable=stable), REFUSED)
            self.assertEqual((pool.reasons, pool.servers[0].last_error), ([("nats://a:4222", REFUSED)], REFUSED))


class DiscoveryTests(SynchronousTestCase):
    """Servers that come and go with INFO."""

    def test_new_servers_join_once(self) -> None:
        """New servers are added and reported once; the same INFO again changes nothing."""
        pool = make_pool("a")
        pool.select()
        added = pool.update_from_info(gossip("10.0.0.1:4222", "b:4223", "10.0.0.1:4222"))
        self.assertEqual([server.url for server in added], ["nats://10.0.0.1:4222", "nats://b:4223"])
        self.assertTrue(all(server.discovered for server in added))
        before = pool.servers
        self.assertEqual(hosts(before), "a 10.0.0.1 b")
        self.assertEqual(pool.update_from_info(gossip("10.0.0.1:4222", "b:4223")), [])
        self.assertEqual(pool.servers, before)

    def test_known_servers_are_not_doubled(self) -> None:
        """A server that the user gave is not added again, whatever the case of its name or the form of its address."""
        pool = make_pool("a,tls://b,[2001:db8::1]:1")
        pool.select()
        self.assertEqual(pool.update_from_info(gossip("A:4222", "b:4222", "[2001:DB8:0:0::1]:1")), [])
        self.assertEqual(len(pool.servers), 3)

    def test_gone_servers_leave(self) -> None:
        """A discovered server that INFO does not name any more leaves; those that the user gave stay."""
        pool = make_pool("a,b")
        pool.select()
        pool.update_from_info(gossip("c:1", "d:1"))
        pool.update_from_info(gossip("d:1"))
        self.assertEqual(hosts(pool.servers), "a b d")

    def test_current_server_stays(self) -> None:
        """The current server stays although its own INFO names only the others (as in lame duck mode); it leaves by the next server's."""
        pool = make_pool("a")
        pool.select()
        pool.update_from_info(gossip("c:1", "d:1"))
        pool.failed(pool.servers[0], REFUSED)
        self.assertEqual(pool.select().host, "c")
        pool.update_from_info(gossip("d:1"))
        self.assertEqual(hosts(pool.servers), "c d a")
        pool.lost(pool.servers[0])
        pool.select()
        pool.update_from_info(gossip("e:1", "d:1"))
        self.assertEqual(hosts(pool.servers), "d a e")

    def test_empty_list_changes_nothing(self) -> None:
        """An INFO that names no server, or none that can be read, removes none."""
        pool = make_pool("a")
        pool.select()
        pool.update_from_info(gossip("c:1"))
        for entries in ((), ("nonsense",), ("nats://c:1", "")):
            self.assertEqual(pool.update_from_info(gossip(*entries)), [])
            self.assertEqual(hosts(pool.servers), "a c")

    def test_returning_server_is_not_reported_again(self) -> None:
        """A server that went and came back is in the pool, but it is not news; nor is one that the user gave and that had left."""
        pool = make_pool("a,b", max_reconnect_attempts=0)
        fail(pool)
        pool.select()
        pool.update_from_info(gossip("c:1", "d:1"))
        pool.update_from_info(gossip("d:1"))
        self.assertEqual(pool.update_from_info(gossip("c:1", "d:1", "a:4222")), [])
        self.assertEqual(sorted(hosts(pool.servers).split()), ["a", "b", "c", "d"])
        self.assertTrue(next(server for server in pool.servers if server.host == "a").discovered)

    def test_removed_server_comes_back_with_a_new_count(self) -> None:
        """A discovered server that was given up gets a new chance when INFO names it again."""
        pool = make_pool("a", max_reconnect_attempts=0)
        pool.select()
        (server,) = pool.update_from_info(gossip("b:1"))
        pool.failed(server, REFUSED)
        self.assertEqual(hosts(pool.servers), "a")
        pool.update_from_info(gossip("b:1"))
        self.assertEqual([(other.host, other.attempts) for other in pool.servers], [("a", 0), ("b", 0)])

    def test_ignoring(self) -> None:
        """With ``ignore_discovered``, or room for none, the pool stays as it was given."""
        for options in ({"ignore_discovered": True}, {"max_discovered": 0}):
            pool = make_pool("a", **options)
            pool.select()
            self.assertEqual(pool.update_from_info(gossip("b:1")), [])
            self.assertEqual(hosts(pool.servers), "a")

    def test_nobody_is_current(self) -> None:
        """An INFO that comes when no server is selected is not trusted."""
        pool = make_pool("a")
        self.assertEqual(pool.update_from_info(gossip("b:1")), [])
        self.assertEqual(hosts(pool.servers), "a")

    def test_malformed_entries_are_counted(self) -> None:
        """What is not ``host:port`` is ignored and counted; the rest is taken."""
        pool = make_pool("a")
        pool.select()
        added = pool.update_from_info(gossip("nats://x:1", "b:1", "u:p@c:1", "", "d:0", "e:2"))
        self.assertEqual((hosts(added), pool.ignored_entries), ("b e", 4))

    def test_flood(self) -> None:
        """Of a hundred thousand entries the pool takes as many as it may, and looks at no more than twice as many."""
        for form, taken in (("10.{0}.{1}.{2}:4222", 50), ("10.{0}.{1}.{2}:0", 0)):
            looked_at = 0

            class Entries(tuple[str, ...]):
                def __iter__(self) -> Iterator[str]:
                    nonlocal looked_at
                    for entry in super().__iter__():
                        looked_at += 1
                        yield entry

            pool = make_pool("a", max_discovered=50)
            pool.select()
            entries = Entries(form.format(number >> 16, number >> 8 & 255, number & 255) for number in range(100_000))
            self.assertEqual(len(pool.update_from_info(ServerInfo(connect_urls=entries))), taken)
            self.assertEqual((len(pool.servers), pool.ignored_entries), (1 + taken, 100_000 - taken))
            self.assertLessEqual(looked_at, 101)

    def test_flood_of_changing_names(self) -> None:
        """A server that invents new names with each INFO makes neither the pool nor its memory grow without bound."""
        pool = make_pool("a", max_discovered=10)
        pool.select()
        for number in range(100):
            self.assertEqual(len(pool.update_from_info(gossip(*(f"h{number}-{index}:1" for index in range(10))))), 10)
        self.assertEqual(len(pool.servers), 11)
        self.assertLessEqual(len(pool._known), 44)

    def test_random_places_behind_the_current_server(self) -> None:
        """New servers come into random places behind the current one, so that its clients do not all go to the same one next."""
        seconds = set()
        for seed in range(60):
            pool = make_pool("a,b", seed)
            pool = ServerPool(ClientOptions(servers="a,b"), random.Random(seed))
            current = pool.select()
            pool.update_from_info(gossip("c:1", "d:1"))
            self.assertIs(pool.servers[0], current)
            pool.lost(current)
            seconds.add(pool.select().host)
        self.assertEqual(seconds, {"a", "b", "c", "d"})

    def test_discovered_in_this_round_are_tried_in_it(self) -> None:
        """When the only given server is lost, the discovered ones are tried before there is any wait."""
        pool = make_pool("a")
        first = connect(pool)
        pool.update_from_info(gossip("b:1", "c:1"))
        pool.lost(first)
        tried = []
        while pool.delay_before_next() == 0:
            tried.append(fail(pool))
        self.assertEqual(hosts(tried), "b c a")


class InheritanceTests(SynchronousTestCase):
    """What a discovered server takes over from the one that named it."""

    def learn(self, servers: str, *entries: str, **options: Any) -> list[Server]:
        """What a pool learns from its first server."""
        pool = make_pool(servers, **options)
        pool.select()
        return pool.update_from_info(ServerInfo(connect_urls=entries, ws_connect_urls=entries, host="evil.example", port=1))

    def test_user_info(self) -> None:
        """The credentials of the URL are used for the rest of its cluster."""
        (server,) = self.learn("nats://me:pw@a", "b:1")
        self.assertEqual((server.user, server.password, server.token), ("me", "pw", None))
        (server,) = self.learn("secret@a,nats://me:pw@z", "b:1")
        self.assertEqual((server.user, server.password, server.token), (None, None, "secret"))

    def test_scheme(self) -> None:
        """A discovered server has the scheme of the one that named it, and is no less secure."""
        for scheme in ("nats", "tls", "ws", "wss"):
            (server,) = self.learn(f"{scheme}://a", "b:1")
            self.assertEqual(server.scheme, scheme)

    def test_websocket_list(self) -> None:
        """Over WebSocket the list for WebSocket counts, with the path of the current server; otherwise only the other one does."""
        info = ServerInfo(connect_urls=("b:1",), ws_connect_urls=("c:2",))
        pool = make_pool("wss://a/nats?x=1")
        pool.select()
        (server,) = pool.update_from_info(info)
        self.assertEqual((server.url, server.path), ("wss://c:2/nats", "/nats?x=1"))
        pool = make_pool("tls://a")
        pool.select()
        self.assertEqual([server.url for server in pool.update_from_info(info)], ["tls://b:1"])

    def test_name_for_verification(self) -> None:
        """An IP address is verified by the name that the user gave, over any number of steps; a name by itself; never by INFO's host."""
        pool = make_pool("tls://a.example.")
        pool.select()
        first, second = pool.update_from_info(gossip("10.0.0.1:1", "b.example:1", host="evil.example"))
        self.assertEqual((first.tls_name, second.tls_name), ("a.example", "b.example"))
        pool.failed(pool.servers[0], REFUSED)
        self.assertIs(pool.select(), first)
        (third,) = pool.update_from_info(gossip("10.0.0.1:1", "b.example:1", "[::1]:1", host="evil.example"))
        self.assertEqual(third.tls_name, "a.example")

    def test_user_gave_an_address(self) -> None:
        """Where the user gave an address and no name, each address is verified as itself."""
        self.assertEqual([server.tls_name for server in self.learn("tls://10.0.0.1", "10.0.0.2:1", "b:1")], ["10.0.0.2", "b"])

    def test_name_by_option(self) -> None:
        """``tls_server_name`` is the name of every server."""
        servers = self.learn("tls://a", "10.0.0.1:1", "b:1", tls_server_name="cluster.example")
        self.assertEqual([server.tls_name for server in servers], ["cluster.example"] * 2)
        self.assertEqual(make_pool("a", tls_server_name="cluster.example").servers[0].tls_name, "cluster.example")

    def test_unix_socket(self) -> None:
        """What is learned over a UNIX socket is reached over TCP."""
        (server,) = self.learn("unix://me:pw@/run/nats.sock", "10.0.0.1:4222")
        self.assertEqual((server.url, server.path, server.user, server.tls_name), ("nats://10.0.0.1:4222", "", "me", "10.0.0.1"))

    def test_need_of_tls(self) -> None:
        """Once a server required TLS, so do those that it names, new ones and those that it named before."""
        pool = make_pool("a")
        current = pool.select()
        (old,) = pool.update_from_info(gossip("b:1"))
        self.assertFalse(old.tls_required_once)
        current.tls_required_once = True
        (new,) = pool.update_from_info(gossip("b:1", "c:1"))
        self.assertTrue(old.tls_required_once and new.tls_required_once)

    def test_need_of_tls_outlives_leaving(self) -> None:
        """A server that required TLS still does when it comes back, by INFO of a server that does not, or by its URL."""
        pool = make_pool("a")
        pool.select()
        (server,) = pool.update_from_info(gossip("b:4222"))
        server.tls_required_once = True
        pool.update_from_info(gossip("c:1"))
        pool.update_from_info(gossip("b:4222"))
        self.assertEqual([other.tls_required_once for other in pool.servers], [False, True])
        self.assertIsNot(pool.servers[1], server)
        pool.replace("a")
        pool.replace("a,b")
        self.assertEqual([other.tls_required_once for other in pool.servers], [False, True])


class ReplaceTests(SynchronousTestCase):
    """Giving a running client other servers."""

    def test_counts_of_equal_servers_stay(self) -> None:
        """A server that stays keeps what is known of it; the others go, the discovered ones too."""
        pool = make_pool("a,b")
        kept = fail(pool)
        pool.select()
        pool.update_from_info(gossip("c:1", "d:1"))
        pool.replace(["nats://new", "A:4222", "d:1"])
        self.assertEqual([server.url for server in pool.servers], ["nats://new:4222", "nats://a:4222", "nats://d:1"])
        self.assertIs(pool.servers[1], kept)
        self.assertEqual((kept.attempts, kept.last_error), (1, REFUSED))
        self.assertEqual([server.discovered for server in pool.servers], [False] * 3)

    def test_given_servers_do_not_leave_by_info(self) -> None:
        """A discovered server that the user gives now is the user's."""
        pool = make_pool("a")
        pool.select()
        pool.update_from_info(gossip("b:4222"))
        pool.replace("a,b")
        pool.update_from_info(gossip("c:1"))
        self.assertEqual(hosts(pool.servers), "a b c")

    def test_new_credentials(self) -> None:
        """Credentials are those of the new URL, and an authentication error of the old ones is forgotten."""
        pool = make_pool("nats://me:old@a")
        fail(pool, AuthorizationViolationError("x"))
        pool.replace("nats://me:new@a")
        self.assertEqual((pool.servers[0].password, pool.servers[0].attempts), ("new", 1))
        self.assertFalse(pool.failed(pool.select(), AuthorizationViolationError("x")))
        pool.replace("nats://me:new@a")
        self.assertTrue(pool.failed(pool.select(), AuthorizationViolationError("x")))

    def test_wrong_urls_change_nothing(self) -> None:
        """No URL, a wrong one, or a mixture raises, and the pool is as before."""
        pool = make_pool("a,b")
        before = pool.servers
        for urls in ("", [], "x,ws://y", "h:0"):
            self.assertRaises(ConfigurationError, pool.replace, urls)
            self.assertEqual(pool.servers, before)

    def test_connection_that_stands(self) -> None:
        """The current server stays the current one, also if it is not in the new pool; what it names is still learned."""
        pool = make_pool("nats://me:pw@a")
        current = connect(pool)
        pool.replace("b")
        self.assertIs(pool.current, current)
        self.assertEqual(hosts(pool.servers), "b")
        (learned,) = pool.update_from_info(gossip("c:1"))
        self.assertEqual(learned.user, "me")
        pool.lost(current)
        self.assertEqual(hosts([fail(pool), fail(pool)]), "b c")

    def test_back_again_while_connected(self) -> None:
        """The current server is known again when it comes back into the pool."""
        pool = make_pool("a")
        current = connect(pool)
        pool.replace("b")
        pool.replace("b,a")
        self.assertIs(pool.servers[1], current)

    def test_named_by_its_own_cluster(self) -> None:
        """If the user takes the current server out and INFO names it, it is back as a discovered one, with what is known of it."""
        pool = make_pool("a")
        current = connect(pool)
        pool.replace("b")
        self.assertEqual(pool.update_from_info(gossip("a:4222")), [])
        self.assertEqual(hosts(pool.servers), "b a")
        self.assertIs(pool.servers[1], current)
        self.assertTrue(current.discovered)

    def test_new_servers_are_tried_at_once(self) -> None:
        """After a round of failures, new servers are tried without a wait."""
        pool = make_pool("a")
        fail(pool)
        self.assertGreater(pool.delay_before_next(), 0)
        pool.replace("a,b")
        self.assertEqual(pool.delay_before_next(), 0)
        self.assertEqual(pool.select().host, "b")

    def test_shuffled(self) -> None:
        """The new order is random too, unless it shall not be."""
        orders = set()
        for seed in range(20):
            pool = make_pool("a", seed, shuffle_servers=True)
            pool.replace("b,c,d")
            orders.add(hosts(pool.servers))
        self.assertGreater(len(orders), 3)


class PreferTests(SynchronousTestCase):
    """A destination that was chosen outside of the pool."""

    def test_known_server(self) -> None:
        """A server of the pool becomes the next one, also if it was tried in this round; nothing joins."""
        pool = make_pool("a,b,c")
        for _ in range(2):
            fail(pool)
        pool.prefer("B", 4222)
        self.assertEqual(hosts([fail(pool), fail(pool)]), "b c")
        self.assertEqual(len(pool.servers), 3)

    def test_new_server(self) -> None:
        """A server that was not in the pool joins it, is next, and is verified by the name that holds for all."""
        pool = make_pool("a", tls_server_name="cluster.example")
        pool.prefer("b", 1)
        self.assertEqual(hosts([fail(pool), fail(pool)]), "b a")
        self.assertEqual([server.tls_name for server in pool.servers], ["cluster.example"] * 2)

    def test_alone(self) -> None:
        """A server that takes the place of all others is the only one; what is known of its need of TLS stays."""
        pool = make_pool("a,b")
        pool.servers[1].tls_required_once = True
        pool.prefer("c", 1, alone=True)
        self.assertEqual(hosts(pool.servers), "c")
        pool.prefer("b", 4222, alone=True)
        self.assertEqual([(server.host, server.tls_required_once) for server in pool.servers], [("b", True)])


class ServerTests(SynchronousTestCase):
    """One server."""

    def test_from_url(self) -> None:
        """A server has the parts of its URL, and the name for verification is its host."""
        server = Server.from_url("wss://me:pw@Demo.Example./p?q=1")
        self.assertEqual((server.scheme, server.host, server.port, server.path), ("wss", "demo.example.", 443, "/p?q=1"))
        self.assertEqual((server.user, server.password, server.token), ("me", "pw", None))
        self.assertEqual((server.tls_name, server.discovered, server.attempts, server.did_connect), ("demo.example", False, 0, False))
        self.assertEqual(Server.from_url("a", tls_name="n").tls_name, "n")
        self.assertRaises(InvalidURLError, Server.from_url, "a:0")

    def test_kinds(self) -> None:
        """Whether a server speaks TLS by its URL, or WebSocket, follows from the scheme."""
        kinds = {scheme: Server.from_url(f"{scheme}://h") for scheme in ("nats", "tls", "ws", "wss")}
        self.assertEqual([server.tls for server in kinds.values()], [False, True, False, True])
        self.assertEqual([server.websocket for server in kinds.values()], [False, False, True, True])

    def test_places(self) -> None:
        """Host and port are written with brackets for IPv6, and as the path for a socket."""
        self.assertEqual(Server("::1", 1).host_port, "[::1]:1")
        self.assertEqual(Server("h").host_port, "h:4222")
        self.assertEqual(Server.from_url("unix:///run/s").host_port, "/run/s")

    def test_nothing_secret_is_shown(self) -> None:
        """repr, str and url show neither user nor password nor token nor query."""
        for url in ("nats://sesame:sesame@h", "sesame@h", "wss://h/p?key=sesame"):
            server = Server.from_url(url)
            self.assertNotIn("sesame", f"{server!r} {server} {server.url} {server.host_port}")
        self.assertEqual(repr(Server("h", discovered=True)), "<Server nats://h:4222 (discovered)>")

    def test_each_is_itself(self) -> None:
        """Two servers with the same place are not equal, and a server can be in a set."""
        self.assertNotEqual(Server("h"), Server("h"))
        self.assertEqual(len({Server("h"), Server("h")}), 2)


GIVEN = [f"g{number}:4222" for number in range(4)]
NAMED = [f"10.0.0.{number}:4222" for number in range(6)] + GIVEN[:2] + ["n:1"]
ERRORS = [REFUSED, AuthorizationViolationError("x"), AuthenticationExpiredError("x")]
pick_error = st.sampled_from(ERRORS)


class PoolMachine(RuleBasedStateMachine):
    """Anything that can happen to a pool, in any order, against a simple model of who belongs to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ServerPool(ClientOptions(servers=GIVEN[:3], max_reconnect_attempts=3, max_discovered=4), random.Random(7))
        self.given = set(GIVEN[:3])
        self.discovered: set[str] = set()
        self.reported: set[str] = set()
        self.old: Server | None = None

    def left_the_pool(self, server: Server, removed: bool) -> None:
        if removed:
            self.given.discard(server.host_port)
            self.discovered.discard(server.host_port)

    @rule()
    def select(self) -> None:
        before = self.pool.servers
        untried = self.pool.delay_before_next() == 0
        if not before:
            try:
                self.pool.select()
            except ConnectionServerPoolEmpty:
                return
            raise AssertionError("an empty pool gave a server")
        abandoned = self.pool.current
        server = self.pool.select()
        assert server in before
        assert self.pool.current is server
        assert self.pool.servers[0] is server
        if untried and len(before) > 1:
            assert server is not abandoned

    @precondition(lambda self: self.pool.current is not None)
    @rule(error=pick_error)
    def fail(self, error: BaseException) -> None:
        server = self.pool.current
        attempts = server.attempts
        removed = self.pool.failed(server, error)
        assert server.attempts == attempts + 1
        assert removed or server not in self.pool.servers or self.pool.servers[-1] is server
        self.left_the_pool(server, removed)

    @precondition(lambda self: self.pool.current is not None)
    @rule(stable=st.booleans())
    def connect(self, stable: bool) -> None:
        server = self.pool.current
        self.pool.connected(server)
        if stable:
            self.pool.stable(server)
            assert server.attempts == 0
            assert self.pool.rounds == 0

    @precondition(lambda self: self.pool.current is not None)
    @rule(error=st.one_of(st.none(), pick_error))
    def lose(self, error: BaseException | None) -> None:
        server = self.pool.current
        self.old = server
        self.left_the_pool(server, self.pool.lost(server, error))

    @precondition(lambda self: self.pool.current is not None)
    @rule()
    def leave(self) -> None:
        self.old = self.pool.current
        attempts = self.old.attempts
        self.pool.left(self.old)
        assert self.old.attempts == attempts

    @precondition(lambda self: self.old is not None and self.old is not self.pool.current)
    @rule(error=pick_error)
    def late_loss(self, error: BaseException) -> None:
        current = self.pool.current
        assert not self.pool.lost(self.old, error)
        assert self.pool.current is current

    @rule(entries=st.lists(st.sampled_from([*NAMED, "nonsense", "x:0"]), max_size=8))
    def info(self, entries: list[str]) -> None:
        added = self.pool.update_from_info(gossip(*entries))
        named = list(dict.fromkeys(entry for entry in entries if entry in NAMED))[:4]
        if self.pool.current is None or not named:
            assert added == []
            return
        before = self.discovered
        self.discovered = set(named) - self.given
        if self.pool.current.host_port in before:
            self.discovered.add(self.pool.current.host_port)
        places = {server.host_port for server in added}
        assert places <= self.discovered
        assert not places & self.reported
        self.reported |= places
        assert all(server in self.pool.servers and server.discovered for server in added)

    @rule(urls=st.lists(st.sampled_from(GIVEN + NAMED[:2]), min_size=1, max_size=4))
    def replace(self, urls: list[str]) -> None:
        before = {server.host_port: server for server in self.pool.servers}
        self.pool.replace(urls)
        self.given = set(urls)
        self.discovered = set()
        for server in self.pool.servers:
            assert before.get(server.host_port, server) is server

    @invariant()
    def the_pool_is_what_was_given_and_named(self) -> None:
        servers = self.pool.servers
        places = [server.host_port for server in servers]
        assert len(places) == len(set(places)), "no duplicates"
        assert set(places) == self.given | self.discovered
        assert {server.host_port for server in servers if server.discovered} == self.discovered
        assert self.pool._tried <= set(servers), "nothing is kept of servers that left"

    @invariant()
    def waits_are_for_complete_rounds(self) -> None:
        delay = self.pool.delay_before_next()
        assert 0 <= delay <= 4.0 * 1.1
        assert delay == self.pool.delay_before_next()
        if self.pool.current is None and self.pool.servers:
            assert (delay > 0) == self.pool.round_complete


class PoolInvariantTests(SynchronousTestCase):
    """The pool as a whole."""

    def test_invariants(self) -> None:
        """Whatever happens in whatever order: the pool is what was given, what was named last, and the current server."""
        run_state_machine_as_test(PoolMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None, database=None))
