"""What the bridge counts."""

from __future__ import annotations

import sys

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.metrics import MAX_REASONS, BridgeMetrics


class BridgeMetricsTests(SynchronousTestCase):
    """:class:`BridgeMetrics`."""

    def setUp(self) -> None:
        self.metrics = BridgeMetrics("edge", process=False)
        self.route = self.metrics.route("in", "lines-in")

    def number(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def test_counts(self) -> None:
        """What a route counts is found under its name and type."""
        self.route.messages_in.inc(3)
        self.route.bytes_in.inc(30)
        self.route.failed("timeout")
        self.route.dropped("too-long", 2)
        self.route.bad_input("bad-framing")
        self.route.http_response(404)
        self.route.in_flight.inc()
        labels = {"route": "in", "type": "lines-in"}
        self.assertEqual(self.number("nats_bridge_messages_in_total", **labels), 3)
        self.assertEqual(self.number("nats_bridge_bytes_in_total", **labels), 30)
        self.assertEqual(self.number("nats_bridge_messages_failed_total", reason="timeout", **labels), 1)
        self.assertEqual(self.number("nats_bridge_messages_dropped_total", reason="too-long", **labels), 2)
        self.assertEqual(self.number("nats_bridge_bad_input_total", reason="bad-framing", **labels), 1)
        self.assertEqual(self.number("nats_bridge_http_responses_total", code="4xx", **labels), 1)
        self.assertEqual(self.number("nats_bridge_in_flight", **labels), 1)

    def test_up(self) -> None:
        """Who says whether it is up has a series for it, who does not has none: it would look like being down."""
        self.assertIsNone(self.number("nats_bridge_route_up", route="in", type="lines-in"))
        self.route.up.set(1)
        self.assertEqual(self.number("nats_bridge_route_up", route="in", type="lines-in"), 1)

    def test_lazy(self) -> None:
        """A route has no series for what routes of its type do not do, and has one from when it first asks."""
        labels = {"route": "in", "type": "lines-in"}
        names = (
            "retries_total", "dlq_total", "duplicates_total", "target_latency_seconds_count", "sse_clients", "slow_clients_total",
            "consumer_lag_messages", "consumer_lag_seconds", "consumer_ack_pending_ratio", "breaker_state",
        )  # fmt: skip
        for name in names:
            self.assertIsNone(self.number(f"nats_bridge_{name}", **labels), name)
            getattr(self.route, name.removesuffix("_total").removesuffix("_seconds_count"))
            self.assertEqual(self.number(f"nats_bridge_{name}", **labels), 0, name)
        self.assertIsNone(self.number("nats_bridge_acks_total", kind="nak", **labels))
        self.route.ack("nak", 2)
        self.route.sse_resume("reset")
        self.assertEqual(self.number("nats_bridge_acks_total", kind="nak", **labels), 2)
        self.assertEqual(self.number("nats_bridge_sse_resumes_total", result="reset", **labels), 1)

    def test_configuration(self) -> None:
        """The hash of a configuration changes with it; whether a reload was taken over is told from the first one on."""
        self.assertIsNone(self.number("nats_bridge_config_reload_success"))
        self.metrics.config_reload_success.set(0)
        self.assertEqual(self.number("nats_bridge_config_reload_success"), 0)
        self.metrics.config_runs(b"a")
        first = self.number("nats_bridge_config_hash")
        self.metrics.config_runs(b"b")
        self.assertNotEqual(self.number("nats_bridge_config_hash"), first)
        self.metrics.config_runs(b"a")
        self.assertEqual(self.number("nats_bridge_config_hash"), first)

    def test_same_object(self) -> None:
        """A route or connection that asks again gets the same numbers."""
        self.assertIs(self.metrics.route("in"), self.route)
        self.assertIs(self.metrics.nats("default"), self.metrics.nats("default"))

    def test_reasons_are_bounded(self) -> None:
        """However many reasons a route invents, the number of series is bounded, and nothing is lost from the sum."""
        for index in range(10 * MAX_REASONS):
            self.route.failed(f"reason {index}")
        samples = [
            sample
            for family in self.metrics.registry.collect()
            if family.name == "nats_bridge_messages_failed"
            for sample in family.samples
            if sample.name.endswith("_total")
        ]
        self.assertEqual(len(samples), MAX_REASONS + 1)
        self.assertEqual(sum(sample.value for sample in samples), 10 * MAX_REASONS)
        self.assertEqual(self.number("nats_bridge_messages_failed_total", route="in", type="lines-in", reason="other"), 9 * MAX_REASONS)

    def test_http_codes_are_classes(self) -> None:
        """Status codes are counted by class, and nonsense is bounded."""
        for code in (100, 204, 302, 499, 599, 600, 0, 99999):
            self.route.http_response(code)
        for label in ("1xx", "2xx", "3xx", "4xx", "5xx"):
            self.assertEqual(self.number("nats_bridge_http_responses_total", route="in", type="lines-in", code=label), 1)
        self.assertEqual(self.number("nats_bridge_http_responses_total", route="in", type="lines-in", code="other"), 3)

    def test_connection(self) -> None:
        """A connection says whether it is up at the moment of asking."""
        up = False
        self.metrics.nats("default").connected_when(lambda: up)
        self.assertEqual(self.number("nats_bridge_nats_connected", nats="default"), 0)
        up = True
        self.assertEqual(self.number("nats_bridge_nats_connected", nats="default"), 1)
        self.metrics.nats("cloud").connected(True)
        self.assertEqual(self.number("nats_bridge_nats_connected", nats="cloud"), 1)

    def test_registry_of_its_own(self) -> None:
        """Nothing gets into the registry of the process, and two bridges do not mix."""
        before = {family.name for family in REGISTRY.collect()}
        other = BridgeMetrics("other")
        other.route("in", "lines-in").messages_in.inc()
        self.assertEqual({family.name for family in REGISTRY.collect()}, before)
        self.assertEqual(self.number("nats_bridge_messages_in_total", route="in", type="lines-in"), 0)

    def test_given_registry(self) -> None:
        """An application may give a registry of its own."""
        registry = CollectorRegistry()
        BridgeMetrics("b", registry, process=False).route("in", "t").messages_in.inc()
        self.assertEqual(registry.get_sample_value("nats_bridge_messages_in_total", {"route": "in", "type": "t"}), 1)

    def test_exposition(self) -> None:
        """The text is what Prometheus reads; every name of ours has the prefix."""
        self.route.latency.observe(0.003)
        text, content_type = self.metrics.exposition()
        self.assertEqual(content_type, "text/plain; version=0.0.4; charset=utf-8")
        families = {family.name for family in text_string_to_metric_families(text.decode())}
        self.assertIn("nats_bridge_latency_seconds", families)
        self.assertIn("nats_bridge_build_info", families)
        self.assertEqual([name for name in families if not name.startswith("nats_bridge_")], [])

    def test_open_metrics(self) -> None:
        """OpenMetrics for those who ask for it; nonsense in the header does no harm."""
        text, content_type = self.metrics.exposition("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
        self.assertTrue(content_type.startswith("application/openmetrics-text"))
        self.assertTrue(text.endswith(b"# EOF\n"))
        for accept in (";;;,=", "text/plain; version=abc", "*/*"):
            self.assertTrue(self.metrics.exposition(accept)[1].startswith("text/plain"))

    def test_process_metrics(self) -> None:
        """Memory and file descriptors of the process are offered too."""
        text, _ = BridgeMetrics("b").exposition()
        self.assertIn(b"python_info", text)
        if sys.platform == "linux":
            self.assertIn(b"process_resident_memory_bytes", text)
