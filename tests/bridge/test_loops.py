"""Messages that go in circles: who notices, and what may pass."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config import BridgeSection
from pynats_twisted.bridge.loops import MAX_NAMES_READ, PATH_HEADER, LoopGuard, passed
from pynats_twisted.bridge.routes.http_publish import factory as http_publish
from pynats_twisted.bridge.routes.http_request import factory as http_request
from pynats_twisted.protocol.headers import Headers
from tests.bridge.http_support import Harness


def path(*values: str) -> Headers:
    return Headers({PATH_HEADER: list(values), "Other": "x"})


class LoopGuardTests(SynchronousTestCase):
    def test_starts_a_path(self) -> None:
        """A message that has passed no bridge gets the name of this one."""
        guard = LoopGuard("edge")
        self.assertEqual([guard.path_for(headers) for headers in (None, Headers(), Headers({"Other": "x"}))], ["edge"] * 3)

    def test_continues_a_path(self) -> None:
        """The names of the bridges before stay, in their order, also when they stand in several values or in another case."""
        guard = LoopGuard("edge")
        self.assertEqual(guard.path_for(path("a,b")), "a,b,edge")
        self.assertEqual(guard.path_for(path("a", " b , c")), "a,b,c,edge")
        self.assertEqual(guard.path_for(Headers({"nats-bridge-path": "a"})), "a,edge")
        self.assertEqual(guard.path_after([b"a,b"]), "a,b,edge")

    def test_refuses_a_circle(self) -> None:
        """A message that this bridge has brought into NATS before is not brought in again; a longer name is another one."""
        guard = LoopGuard("edge")
        self.assertIsNone(guard.path_for(path("a,edge,b")))
        self.assertIsNone(guard.path_for(path("a", "edge")))
        self.assertEqual(guard.path_for(path("edge-2,Edge")), "edge-2,Edge,edge")

    def test_refuses_a_long_way(self) -> None:
        """``max_hops`` bridges may be passed, this one included."""
        guard = LoopGuard("edge", 3)
        self.assertEqual(guard.path_for(path("a,b")), "a,b,edge")
        self.assertIsNone(guard.path_for(path("a,b,c")))
        self.assertIsNone(LoopGuard("edge", 255).path_for(path("a," * 100_000)))

    def test_allowed_circles_end_too(self) -> None:
        """With ``allow_loops`` a message may come again, until it has passed ``max_hops`` bridges."""
        guard = LoopGuard.of(BridgeSection(name="edge", max_hops=3, allow_loops=True))
        found = [guard.path_for(None)]
        while found[-1] is not None:
            found.append(guard.path_for(path(found[-1])))
        self.assertEqual(found, ["edge", "edge,edge", "edge,edge,edge", None])

    def test_leaves_with_its_path(self) -> None:
        """What leaves NATS is never refused, and its path ends with this bridge, once."""
        guard = LoopGuard("edge", 2)
        self.assertEqual(guard.path_out(None), "edge")
        self.assertEqual(guard.path_out(path("edge")), "edge")
        self.assertEqual(guard.path_out(path("a,edge,b")), "a,edge,b,edge")

    def test_what_is_no_name_is_left_out(self) -> None:
        """Nothing but names is passed on, however the header came to be; the path of a URL is no path of bridges."""
        self.assertEqual(passed(["a b,\x01,," + "x" * 65 + ",ok\xe9,b"]), ["b"])
        self.assertEqual(passed([b"\xff,b"]), ["b"])
        self.assertEqual(LoopGuard("edge").path_for(path("/orders/x,edge", "a")), "a,edge")
        self.assertEqual(len(passed([",".join(["a"] * 10_000)] * 3)), MAX_NAMES_READ)


class HTTPRouteTests(SynchronousTestCase):
    """The routes that take HTTP requests."""

    def test_a_circle_over_http(self) -> None:
        """A request that has passed this bridge is answered with 508, counted as a loop, and nothing is published."""
        for factory in (http_publish, http_request):
            harness = Harness()
            harness.route(factory, path="/in", subject="in", methods=["POST"])
            peer = harness.peer()
            peer.request("POST", "/in", {PATH_HEADER: "a,edge"}, b"x")
            response = peer.response()
            self.assertEqual((response.status, response.kind), (508, "loop"))
            self.assertEqual((harness.client.published, harness.client.requests), ([], []))
            self.assertEqual(harness.count("loops_dropped_total", route="orders", type=factory.type_name), 1)
            self.assertEqual(harness.count("bad_input_total", route="orders", type=factory.type_name, reason="loop"), 0)

    def test_the_path_goes_on(self) -> None:
        """The path of a request is continued in the message; for ``http-request`` behind the path of the URL."""
        harness = Harness()
        harness.route(http_publish, path="/in", subject="in", confirm="none")
        harness.route(http_request, name="other", path="/ask", subject="ask", methods=["POST"])
        peer = harness.peer()
        peer.request("POST", "/in", {PATH_HEADER: "a, b"}, b"x")
        peer.response()
        self.assertEqual(harness.client.published[0].headers.get_all(PATH_HEADER), ["a,b,edge"])
        peer.request("POST", "/ask", {PATH_HEADER: "a"}, b"x")
        self.assertEqual(harness.client.requests[0].headers.get_all(PATH_HEADER), ["/ask", "a,edge"])
