"""The pool of servers: which one is next, and after what wait. It has no clock, and neither connects nor resolves names."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from pynats_twisted.errors import ConnectionServerPoolEmpty, ServerError
from pynats_twisted.protocol.server import Server
from pynats_twisted.protocol.urls import ServerURL, is_ip_address, parse_gossip, parse_servers

if TYPE_CHECKING:
    from pynats_twisted.protocol.info import ServerInfo
    from pynats_twisted.protocol.options import ClientOptions

__all__ = ["MINIMUM_WAIT", "Server", "ServerPool"]

MINIMUM_WAIT = 0.01
"""Seconds between two rounds at least, whatever the options say: a wait of 0 must not become a busy loop."""

_MAX_REASONS = 128
# How many servers that left the pool are remembered, as a multiple of ``max_discovered``.
_REMEMBERED = 4


class ServerPool:
    """The servers that a client may connect to, in the order in which they are tried.

    The owner calls :meth:`select` and then, when it knows how that went, :meth:`failed` (no connection came about), or
    :meth:`connected`, perhaps :meth:`stable`, and in the end :meth:`lost` or :meth:`left`. A *round* is one attempt at each server of the
    pool. Within a round there is nothing to wait for; before the next one :meth:`delay_before_next` says how long. Rounds and attempts are
    counted from the last connection that was :meth:`stable`: a server that takes connections only to drop them does not reset the waits.

    The pool holds the servers that the user gave, those of the latest INFO, and the current one; never two with the same address.

    :param options: servers, order, waits and limits.
    :param rng: the source of shuffling and jitter.
    :ivar ignored_entries: entries of INFOs that were left out because they were malformed or too many.
    :ivar delay_error: what the option ``reconnect_delay`` raised or returned wrongly the last time; the built-in wait was used instead.
    """

    def __init__(self, options: ClientOptions, rng: random.Random | None = None) -> None:
        self._options = options
        self._rng = rng if rng is not None else random.Random()
        self._servers: list[Server] = []
        self._current: Server | None = None
        self._current_is_stable = False
        self._tried: set[Server] = set()
        self._rounds = 0
        self._delay: float | None = None
        self._reasons: deque[tuple[str, BaseException]] = deque(maxlen=_MAX_REASONS)
        # Addresses that INFOs named or that left the pool, oldest first, and whether TLS was required there.
        self._known: dict[tuple[str, int], bool] = {}
        self.ignored_entries = 0
        self.delay_error: Exception | None = None
        self._set_servers(options.server_urls)

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers, in the order in which they are tried."""
        return tuple(self._servers)

    @property
    def current(self) -> Server | None:
        """The server that was selected, as long as its attempt or connection has not ended."""
        return self._current

    @property
    def reasons(self) -> list[tuple[str, BaseException]]:
        """What ended the attempts since the last stable connection: ``(url, error)``, oldest first, the last 128 of them."""
        return list(self._reasons)

    @property
    def rounds(self) -> int:
        """How many rounds have failed and were begun anew since the last stable connection."""
        return self._rounds

    @property
    def round_complete(self) -> bool:
        """Every server has been tried in this round and none is in use; also true when none is left."""
        return self._current is None and self._next() is None

    # --- what is next ------------------------------------------------------------------------------------

    def select(self) -> Server:
        """Make the next server the current one.

        If there is a current one of which nothing was reported, it counts as tried and goes to the end of the order.

        :raises ConnectionServerPoolEmpty: no server is left.
        """
        if self._current is not None:
            self._release(self._current)
        if not self._servers:
            raise ConnectionServerPoolEmpty("no server is left to connect to")
        server = self._next()
        if server is None:
            self._tried.clear()
            self._rounds += 1
            server = self._servers[0]
        self._tried.add(server)
        self._delay = None
        # The order is a ring: it is turned so that the current server stands first and new ones can go behind it.
        index = self._servers.index(server)
        self._servers = self._servers[index:] + self._servers[:index]
        self._current = server
        self._current_is_stable = False
        return server

    def delay_before_next(self) -> float:
        """Seconds to wait before :meth:`select`.

        0 while a server of this round is untried. After a round it is ``reconnect_wait``, multiplied by ``reconnect_wait_factor`` for
        each round before it, no more than ``reconnect_wait_max``, plus a random part of it up to the jitter; or what ``reconnect_delay``
        returns for the number of the round (1, 2, ...), which is asked once for each. Between rounds it is never less than 0.01.
        """
        if not self._servers or self._next() is not None:
            return 0.0
        if self._delay is None:
            self._delay = self._delay_after(self._rounds + 1)
        return self._delay

    def skip_wait(self) -> None:
        """Make the next :meth:`delay_before_next` 0: the user asked for a connection now."""
        self._delay = 0.0

    def _next(self) -> Server | None:
        return next((server for server in self._servers if server not in self._tried), None)

    def _delay_after(self, number: int) -> float:
        options = self._options
        if options.reconnect_delay is not None:
            try:
                delay = float(options.reconnect_delay(number))
                if not math.isfinite(delay) or delay < 0:
                    raise ValueError(f"reconnect_delay({number}) returned {delay}; it must return seconds, 0 or more")
                return max(delay, MINIMUM_WAIT)
            except Exception as error:  # noqa: BLE001 - the user's code; whoever owns the pool reports it
                self.delay_error = error
        try:
            delay = options.reconnect_wait * options.reconnect_wait_factor ** (number - 1)
        except OverflowError:
            delay = options.reconnect_wait_max
        delay = min(delay, options.reconnect_wait_max)
        server = self._servers[0]
        secure = options.tls_wanted or server.tls or server.tls_required_once
        jitter = options.reconnect_jitter_tls if secure else options.reconnect_jitter
        return max(delay * (1 + jitter * self._rng.random()), MINIMUM_WAIT)

    # --- what happened -----------------------------------------------------------------------------------

    def connected(self, server: Server) -> None:
        """The handshake with this server is complete. Waits and attempts stay as they are until :meth:`stable`."""
        server.did_connect = True
        self._current = server

    def stable(self, server: Server) -> None:
        """The connection has stayed up for a while (``reconnect_stable_after``): rounds, waits, reasons and its attempts start anew."""
        server.attempts = 0
        server.last_error = None
        server.last_auth_error = None
        if server is self._current:
            self._current_is_stable = True
            self._start_anew()
            self._reasons.clear()

    def failed(self, server: Server, error: BaseException) -> bool:
        """The attempt at this server has failed: it goes to the end of the order, or out of the pool.

        It leaves when it had more than ``max_reconnect_attempts`` attempts, when its last authentication error was of the same class
        as this one (unless ``ignore_auth_error_abort``; other errors in between do not change that), and at once when it said something
        that no further attempt can change (``ServerError.reconnect`` is False).

        :returns: whether it was removed.
        """
        self._release(server)
        return self._count(server, error)

    def lost(self, server: Server, error: BaseException | None = None) -> bool:
        """The connection to this server was lost: it goes to the end of the order, and the next one may be selected at once.

        If the connection was not :meth:`stable` this was an attempt like one that :meth:`failed`, and the round goes on. Otherwise an
        authentication error counts all the same (for the rule that the second equal one removes the server), and nothing else does.

        :param error: why, where it is known.
        :returns: whether it was removed.
        """
        was_current = server is self._current
        was_stable = was_current and self._current_is_stable
        self._release(server)
        if was_stable:
            # Whoever was tried while this connection stood was tried in a time that is past.
            self._start_anew()
            server.last_error = error
            server.last_auth_error = _auth_class(error)
            if error is not None:
                self._reasons.append((server.url, error))
            return False
        return was_current and self._count(server, error)

    def left(self, server: Server) -> None:
        """We ended the connection to this server ourselves (lame duck, a forced reconnect): as :meth:`lost`, but it is not blamed."""
        was_stable = server is self._current and self._current_is_stable
        self._release(server)
        if was_stable:
            self._start_anew()

    def _start_anew(self) -> None:
        self._rounds = 0
        self._tried.clear()
        self._delay = None

    def _release(self, server: Server) -> None:
        if server is self._current:
            self._current = None
            self._current_is_stable = False
        if server in self._servers:
            self._servers.remove(server)
            self._servers.append(server)

    def _count(self, server: Server, error: BaseException | None) -> bool:
        server.attempts += 1
        server.last_error = error
        twice = False
        if error is not None:
            self._reasons.append((server.url, error))
            kind = _auth_class(error)
            if kind is not None:
                twice = server.last_auth_error is kind and not self._options.ignore_auth_error_abort
                server.last_auth_error = kind
        hopeless = isinstance(error, ServerError) and not error.reconnect
        limit = self._options.max_reconnect_attempts
        if not twice and not hopeless and (limit < 0 or server.attempts <= limit):
            return False
        if server not in self._servers:
            return False
        self._servers.remove(server)
        self._tried.discard(server)
        self._remember(server)
        return True

    # --- who belongs to the pool -------------------------------------------------------------------------

    def update_from_info(self, info: ServerInfo) -> list[Server]:
        """Take the other servers of the cluster from an INFO of the current server.

        New ones come into random places behind the current server (at the end, in the order given, without ``shuffle_servers``). They take
        over its scheme, user info, path and need of TLS, and its TLS name if they are IP addresses. Discovered ones that the INFO does not
        name any more leave; the current one and those that the user gave stay. An INFO that names no server changes nothing.

        At most ``max_discovered`` are taken, and about as many malformed ones looked at: the work is bounded whatever a server sends.

        :returns: those that were added and had not been in the pool before.
        """
        source, limit = self._current, self._options.max_discovered
        if source is None or self._options.ignore_discovered:
            return []
        named = self._named(info.ws_connect_urls if source.websocket else info.connect_urls, limit)
        if not named:
            return []
        self._keep([s for s in self._servers if not s.discovered or s is source or (s.host, s.port) in named])
        present = {(server.host, server.port): server for server in self._servers}
        fresh: list[Server] = []
        added: list[Server] = []
        for place in named:
            server = present.get(place)
            if server is None:
                server = self._learn(place, source)
                added.append(server)
                if place not in self._known:
                    fresh.append(server)
            elif server.discovered and source.tls_required_once:
                server.tls_required_once = True
            self._remember(server)
        self._insert(added)
        return fresh

    def prefer(self, host: str, port: int, *, alone: bool = False) -> None:
        """Make the server with this address the next one; it joins the pool where it is not in it.

        :param alone: a server that has to join takes the place of all others.
        """
        host = host.lower()
        server = next((each for each in self._servers if (each.host, each.port) == (host, port)), None)
        if server is None:
            server = Server(host=host, port=port, tls_name=self._options.tls_server_name or "")
            server.tls_required_once = self._known.get((host, port), False)
            self._keep([] if alone else self._servers)
        else:
            self._servers.remove(server)
        self._servers.insert(0, server)
        self._tried.discard(server)

    def replace(self, urls: str | Sequence[str]) -> None:
        """Put these servers in the place of all others; the connection that stands is not touched.

        A server that was in the pool keeps its attempts and what is known of its TLS, and takes its user info from the new URL.

        :raises ConfigurationError: there is no URL, one is invalid, or the schemes are mixed; the pool is as before.
        """
        self._set_servers(parse_servers(urls))

    def _set_servers(self, urls: Sequence[ServerURL]) -> None:
        old = {server.address: server for server in self._servers}
        if self._current is not None:
            old[self._current.address] = self._current
        servers: list[Server] = []
        for url in urls:
            server = Server.from_url(url, tls_name=self._options.tls_server_name)
            known = old.get(url.address)
            if known is not None:
                server = self._renewed(known, server)
            server.tls_required_once |= self._known.get((server.host, server.port), False)
            servers.append(server)
        if self._options.shuffle_servers:
            self._rng.shuffle(servers)
        self._keep(servers)
        self._delay = None

    def _keep(self, servers: list[Server]) -> None:
        kept = set(servers)
        for server in self._servers:
            if server not in kept:
                self._remember(server)
        self._servers = servers
        self._tried &= kept

    def _remember(self, server: Server) -> None:
        place = (server.host, server.port)
        self._known[place] = server.tls_required_once or self._known.get(place, False)
        if len(self._known) > _REMEMBERED * max(self._options.max_discovered, len(self._servers)):
            del self._known[next(iter(self._known))]

    def _renewed(self, known: Server, server: Server) -> Server:
        if (known.user, known.password, known.token) != (server.user, server.password, server.token):
            known.last_auth_error = None
        known.user, known.password, known.token = server.user, server.password, server.token
        known.scheme, known.tls_name, known.discovered = server.scheme, server.tls_name, False
        return known

    def _named(self, entries: Sequence[str], limit: int) -> dict[tuple[str, int], None]:
        """The places that an INFO names, in its order, without duplicates."""
        named: dict[tuple[str, int], None] = {}
        taken = 0
        for entry in islice(entries, 2 * limit):
            place = parse_gossip(entry)
            if place is not None:
                taken += 1
                named[place] = None
                if len(named) == limit:
                    break
        self.ignored_entries += len(entries) - taken
        return named

    def _learn(self, place: tuple[str, int], source: Server) -> Server:
        host, port = place
        if place == (source.host, source.port):
            # The user took it out while we were connected; now the cluster has brought it back.
            source.discovered = True
            return source
        unix = source.scheme == "unix"
        name = self._options.tls_server_name
        if name is None and is_ip_address(host) and not is_ip_address(source.tls_name):
            name = source.tls_name
        return Server(
            host=host,
            port=port,
            scheme="nats" if unix else source.scheme,
            user=source.user,
            password=source.password,
            token=source.token,
            path="" if unix else source.path,
            discovered=True,
            tls_name=name or "",
            tls_required_once=source.tls_required_once or self._known.get(place, False),
        )

    def _insert(self, added: list[Server]) -> None:
        if not self._options.shuffle_servers:
            self._servers += added
            return
        first = self._servers.index(self._current) + 1 if self._current in self._servers else 0
        behind = self._servers[first:]
        for server in added:
            behind.insert(self._rng.randint(0, len(behind)), server)
        self._servers[first:] = behind


def _auth_class(error: BaseException | None) -> type[BaseException] | None:
    return type(error) if isinstance(error, ServerError) and error.auth else None
