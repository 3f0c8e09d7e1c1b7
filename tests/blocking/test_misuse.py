"""Calls from where none should come, and exceptions out of nowhere: the client says so, and stays usable."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from unittest import mock

from pynats_twisted import blocking, errors
from pynats_twisted.blocking import BlockingClient, Closed, Connected, Disconnected, Reconnected, StatusEvent
from pynats_twisted.blocking.sockets import Machine
from pynats_twisted.protocol import ClientOptions

from .support import BlockingTestCase, FakeServer

PACKAGE = os.path.dirname(blocking.__file__)


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, at a moment that a test chooses."""


class ConcurrentUseTests(BlockingTestCase):
    """One client, one call at a time."""

    def test_second_thread(self) -> None:
        """A call of a second thread while the first is in one is refused, with the rule; and nothing was done."""
        import threading

        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        found: list[Any] = []

        def calls() -> None:
            for call in (lambda: nc.publish("x", b"other"), nc.flush, lambda: nc.subscribe("y"), sub.next, nc.process, nc.drain, nc.close):
                try:
                    found.append(call())
                except errors.NatsError as error:
                    found.append(error)

        def second_thread(kind: str) -> None:
            self.machine.on_tick = lambda kind: None
            thread = threading.Thread(target=calls)
            thread.start()
            thread.join()

        self.machine.on_tick = second_thread
        self.machine.at(1.0, lambda: self.server.publish("x", b"1"))
        self.assertEqual(sub.next(5).data, b"1")
        self.assertEqual([type(each) for each in found], [errors.ConcurrentUseError] * 7)
        self.assertIn("each thread needs a client of its own", str(found[0]))
        self.assertEqual((self.server.published, nc.subscriptions, nc.is_connected), ([], (sub,), True))

    def test_one_thread_after_the_other(self) -> None:
        """A client may be handed to another thread between calls."""
        import threading

        nc = self.connect()
        thread = threading.Thread(target=nc.publish, args=("x", b"1"))
        thread.start()
        thread.join()
        nc.flush()
        self.assertEqual(self.server.payloads, [b"1"])

    def test_signal_handler(self) -> None:
        """A signal handler that calls the client in the middle of a call is refused, and the call can be made again."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        self.machine.at(1.0, lambda: nc.publish("y"))
        error = self.assertRaises(errors.ConcurrentUseError, sub.next)
        self.assertIn("signal handler", str(error))
        self.machine.at(1.0, lambda: self.server.publish("x", b"1"))
        self.assertEqual(sub.next().data, b"1")

    def test_forked_process(self) -> None:
        """In a forked process every call is refused, but close(), which sends nothing over the parent's connection."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        self.machine.pump()
        lines = list(self.server.peer.lines)
        with mock.patch("os.getpid", return_value=os.getpid() + 1):
            for call in (lambda: nc.publish("x"), nc.flush, sub.next, nc.drain):
                self.assertIn("forked", str(self.assertRaises(errors.ConcurrentUseError, call)))
            nc.close()
        self.machine.pump()
        self.assertEqual((self.server.peer.lines, self.server.peer.client_ended), (lines, False))

    def test_on_event_may_call(self) -> None:
        """on_event may publish, flush and make requests; events that come meanwhile are told behind, in order."""
        told: list[StatusEvent] = []
        clients: list[BlockingClient] = []

        def on_event(event: StatusEvent) -> None:
            told.append(event)
            if clients:
                clients[0].publish("events", type(event).__name__.encode())
                clients[0].flush()

        nc = BlockingClient(ClientOptions(servers="nats://a:4222"), on_event=on_event, machine=self.machine)
        clients.append(nc.start())
        sub = nc.subscribe("x")
        self.server.peer.close()
        self.machine.at(1.0, lambda: self.server.publish("x", b"1"))
        self.assertEqual(sub.next().data, b"1")
        self.assertEqual(self.server.payloads, [b"Disconnected", b"Reconnected"])
        self.assertEqual([type(event) for event in told], [Connected, Disconnected, Reconnected])
        clients.clear()
        nc.close()
        self.assertEqual(told[-1], Closed(None, 0))

    def test_on_event_that_closes(self) -> None:
        """on_event may close the client; the call under way says so."""

        def on_event(event: StatusEvent) -> None:
            if isinstance(event, Disconnected):
                nc.close()

        nc = BlockingClient(ClientOptions(servers="nats://a:4222"), on_event=on_event, machine=self.machine).start()
        sub = nc.subscribe("x")
        self.server.peer.close()
        self.assertRaises(errors.ConnectionClosedError, sub.next)
        self.assertEqual(list(sub), [])

    def test_on_event_that_fails(self) -> None:
        """What on_event raises is logged and counted; the call goes on."""

        def on_event(event: StatusEvent) -> None:
            raise LookupError("mine")

        with self.assertLogs("pynats_twisted.blocking", "ERROR") as logged:
            nc = BlockingClient(ClientOptions(servers="nats://a:4222"), on_event=on_event, machine=self.machine).start()
            self.assertEqual(nc.stats.listener_errors, 1)
            nc.close()
        self.assertIn("mine", logged.output[0])


class InterruptTests(BlockingTestCase):
    """Ctrl-C in the middle of a call."""

    def test_while_it_waits(self) -> None:
        """Ctrl-C in a call that waits changes nothing: the connection stays, and the next call goes on."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()

        def interrupt() -> None:
            raise Interrupt

        for call in (sub.next, lambda: next(sub), lambda: nc.process(5.0), lambda: nc.request("served")):
            self.server.served.add("served")
            self.machine.at(1.0, interrupt)
            self.assertRaises(Interrupt, call)
        self.machine.at(1.0, lambda: self.server.publish("x", b"1"))
        self.assertEqual(sub.next().data, b"1")
        self.assertEqual((len(self.server.peers), nc.stats.unconfirmed), (1, 0))

    def test_while_it_waits_to_reconnect(self) -> None:
        """Ctrl-C between two attempts, and in one, leaves a client that connects in the next call."""
        nc = self.connect(reconnect_wait=5.0, reconnect_wait_max=5.0)

        def interrupt() -> None:
            raise Interrupt

        for mode in ("refuse", "swallow"):
            self.server.mode = mode
            self.server.peer.close()
            self.machine.at(1.0, interrupt)
            self.assertRaises(Interrupt, nc.flush)
            self.server.mode = "accept"
            nc.flush(timeout=20.0)
            self.assertTrue(nc.is_connected)

    def test_anywhere(self) -> None:
        """Ctrl-C at any line of our code leaves a client that goes on working, with its subscriptions."""

        def scenario(nc: BlockingClient, sub: Any) -> None:
            nc.publish("x", b"a")
            sub.next(timeout=1.0)
            self.server.peer.close()
            nc.publish("x", b"b")
            with contextlib.suppress(errors.DisconnectedError):
                nc.flush()
            nc.flush()
            nc.request("served", timeout=1.0)
            other = nc.subscribe("x", max_msgs=1)
            other.unsubscribe()
            self.server.mode = "refuse"
            self.server.peer.close()
            self.machine.at(0.3, lambda server=self.server: setattr(server, "mode", "accept"))
            nc.publish("x", b"c")
            nc.process(timeout=0.2)
            with nc.buffered():
                nc.publish("x", b"d")

        reached = 0
        for moment in range(5000):
            self.server = FakeServer(self.machine)
            self.server.served.add("served")
            self.server.on_line = lambda peer, line: (
                self.server.publish(self.server.published[-1].reply, b"ok") if line.startswith("PUB served") else None
            )
            nc = self.connect(request_timeout=1.0)
            sub = nc.subscribe("x").confirmed()
            if not interrupted(moment, lambda nc=nc, sub=sub: scenario(nc, sub)):  # type: ignore[misc]
                break
            reached += 1
            self.works(nc, sub, moment)
            nc.close()
            # A socket may be forgotten where an exception comes between getting it and keeping it.
            self.machine.leaked = 0
        self.assertGreater(reached, 1000)

    def works(self, nc: BlockingClient, sub: Any, moment: int) -> None:
        """The client does all that a client does."""
        self.server.mode = "accept"
        self.assertIsNot(nc.status, blocking.ClientStatus.CLOSED)
        try:
            nc.flush()
        except errors.DisconnectedError:
            # What the interrupted call had published may be lost, and that is told.
            nc.flush()
        while sub.pending_msgs:
            sub.next(0)
        marker = b"%d" % moment
        nc.publish("x", marker)
        self.assertEqual(sub.next(timeout=1.0).data, marker, f"interrupted at {moment}")
        self.assertEqual(nc.request("served").data, b"ok")
        nc.flush()
        self.assertEqual(nc.pending_bytes, 0)
        if len(self.machine.open_sockets) > 1:
            gc.collect()
        self.assertEqual(len(self.machine.open_sockets), 1)


def interrupted(moment: int, call: Callable[[], object]) -> bool:
    """Make a call, and raise Interrupt in it when it comes to that line of the package, counted from 0. Returns whether it did."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            if count == moment:
                count += 1
                raise Interrupt
            count += 1
        return trace

    def contained() -> Iterator[None]:
        call()
        yield

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        # An exception at the last line of an except block can stay what the interpreter takes for the one being handled. A
        # generator has such a state of its own, which goes with it.
        next(contained())
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return count > moment


class MachineTests(BlockingTestCase):
    """The machine of these tests is one that the client may have."""

    def test_same_methods(self) -> None:
        """The machine in memory has the methods of the real one, with the same parameters."""
        for name, real in inspect.getmembers(Machine, inspect.isfunction):
            fake = getattr(type(self.machine), name)
            self.assertEqual(list(inspect.signature(fake).parameters), list(inspect.signature(real).parameters), name)
