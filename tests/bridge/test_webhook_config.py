"""The keys of ``webhook`` routes, and what is said of them before they run."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config import Flow
from pynats_twisted.bridge.config_convert import convert_section
from pynats_twisted.bridge.routes.webhook import guarantee
from pynats_twisted.bridge.webhook_config import WebhookConfig, parse_target
from pynats_twisted.bridge.webhook_consumer import consumer_problem
from pynats_twisted.errors import ConfigurationError
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig

BASE = {"stream": "ORDERS", "consumer": "crm", "url": "https://crm.example.com/hook"}


def make(**keys: Any) -> WebhookConfig:
    """A valid configuration."""
    problems: list[Any] = []
    config = convert_section({"type": "webhook", **BASE, **keys}, WebhookConfig, (), problems)
    if config is None:
        raise AssertionError(problems)
    return config


class KeyTests(SynchronousTestCase):
    """:class:`WebhookConfig`."""

    def problems(self, **keys: Any) -> list[tuple[str, str]]:
        found: list[Any] = []
        convert_section({"type": "webhook", **BASE, **keys}, WebhookConfig, (), found)
        return [(".".join(map(str, problem.path)), problem.found) for problem in found]

    def test_defaults(self) -> None:
        """What is promised without saying anything."""
        config = make()
        self.assertEqual((config.slots, config.max_ack_pending, config.timeout, config.ack_wait), (32, 1000, 20.0, 10.0))
        self.assertEqual(config.dead_letter_subject, "dlq.ORDERS.crm.{seq}")
        self.assertEqual((config.permanent_limit(422), config.permanent_limit(404)), (1, 5))
        self.assertEqual(config.retry.make().attempts, 12)

    def test_strict(self) -> None:
        """In strict order there is one slot, and no dead letters unless they are asked for."""
        config = make(ordering="strict")
        self.assertEqual((config.slots, config.max_ack_pending, config.dead_letter_subject), (1, 1, None))
        self.assertEqual(make(ordering="strict", dlq="dead.{seq}").dead_letter_subject, "dead.{seq}")

    def test_schedules(self) -> None:
        """Each way to write a schedule."""
        for retry, first, attempts in (
            ({"schedule": "fast"}, 1.0, 12),
            ({"schedule": "standard-webhooks"}, 5.0, 10),
            ({"schedule": ["2s", "1m"]}, 2.0, 3),
            ({"schedule": ["2s"], "max_attempts": 7}, 2.0, 7),
            ({"initial": "3s", "factor": 3, "max": "1h", "max_attempts": 20}, 3.0, 20),
        ):
            schedule = make(retry={**retry, "jitter": 0}).retry.make()
            self.assertEqual((schedule.wait(1), schedule.attempts), (first, attempts), retry)

    def test_flows(self) -> None:
        """What it reads and writes is known to the check for loops."""
        self.assertEqual(list(make(filter="orders.>").flows()), [Flow("default", ("orders.>",), ("dlq.ORDERS.crm.*",))])

    def test_bad_urls(self) -> None:
        """A URL of which anything is unclear, or that has credentials, is refused, and not shown."""
        for url in (
            "", "crm.example.com", "ftp://crm.example.com/", "https://", "https://u:geheim@crm.example.com/", "https://crm.example.com/#x",
            "https://{host}/", "https://crm.example.com/{id}", "https://crm.example.com:0/", "https://crm.example.com:99999/",
            "https://crm.example.com/a b", "https://crm.example.com/\r\nX: y", "https://crm.exämple.com/", "https://a\\b/", "//a/",
        ):  # fmt: skip
            found = self.problems(url=url)
            self.assertEqual([key for key, _ in found], ["url"], url)
            self.assertNotIn("geheim", str(found))

    def test_private_hosts(self) -> None:
        """A host that is not public is refused where it can be seen, unless it is allowed."""
        for host in ("127.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "[::1]", "169.254.169.254", "10.1.2.3", "[::ffff:10.0.0.1]"):
            self.assertEqual([key for key, _ in self.problems(url=f"https://{host}/")], ["url"], host)
            self.assertEqual(self.problems(url=f"https://{host}/", allow_private=True), [], host)

    def test_bad_keys(self) -> None:
        """Every other key that breaks a rule is named."""
        for keys, where in (
            ({"stream": "a.b"}, "stream"),
            ({"consumer": "a b"}, "consumer"),
            ({"filter": "a b"}, "filter"),
            ({"filter": ["a", ".."]}, "filter.1"),
            ({"method": "GET"}, "method"),
            ({"headers": {"Host": "x"}}, "headers"),
            ({"headers": {"Webhook-Id": "x"}}, "headers"),
            ({"headers": {"Nats-Subject": "x"}}, "headers"),
            ({"headers": {"a b": "x"}}, "headers"),
            ({"headers": {"Transfer-Encoding": "chunked"}}, "headers"),
            ({"request_headers": ["cookie"]}, "request_headers.0"),
            ({"request_headers": ["nats-msg-id"]}, "request_headers.0"),
            ({"request_headers": ["webhook-signature"]}, "request_headers.0"),
            ({"content_type": "a\r\nb"}, "content_type"),
            ({"ack_wait": "100ms"}, "ack_wait"),
            ({"rate": "fast"}, "rate"),
            ({"dlq": "dlq.all"}, "dlq"),
            ({"dlq": "$JS.{seq}"}, "dlq"),
            ({"dlq": ""}, "dlq"),
            ({"dlq": "dlq.{sequence}"}, "dlq"),
            ({"sign": {}}, "sign"),
            ({"sign": {"scheme": "rot13", "secret": "x"}}, "sign.scheme"),
            ({"retry": {"schedule": "slow"}}, "retry.schedule"),
            ({"retry": {"schedule": []}}, "retry.schedule"),
            ({"retry": {"schedule": "fast", "max": "1s"}}, "retry.max"),
            ({"retry": {"initial": "10s", "max": "1s"}}, "retry.max"),
            ({"retry": {"jitter": 2}}, "retry.jitter"),
            ({"breaker": {"after": 0}}, "breaker.after"),
            ({"tls": {"key": "k.pem"}}, "tls.key"),
            ({"url": "http://crm.example.com/", "tls": {"ca": "ca.pem"}}, "tls"),
            ({"concurrency": 0}, "concurrency"),
        ):
            self.assertEqual([key for key, _ in self.problems(**keys)], [where], keys)

    def test_warnings(self) -> None:
        """What works, but can be read on its way, is warned of."""
        warnings = make(url="http://crm.example.com/", connect_timeout="30s").find_warnings()
        self.assertEqual([warning.key for warning in warnings], ["url", "connect_timeout"])

    def test_target(self) -> None:
        """The parts of a URL, and what of it is shown."""
        target = parse_target("https://Crm.example.com:8443/a/b?token=secret")
        self.assertEqual(
            (target.host, target.port, target.authority, target.path),
            ("crm.example.com", 8443, "crm.example.com:8443", "/a/b?token=secret"),
        )
        self.assertEqual(target.shown, "https://crm.example.com:8443/a/b")
        self.assertEqual(parse_target("http://[2606:4700::1]")[1:], ("2606:4700::1", 80, "[2606:4700::1]", "/"))
        with self.assertRaises(ConfigurationError):
            parse_target("http://[::1/")

    def test_guarantee(self) -> None:
        """The guarantee in words follows the keys."""
        self.assertIn("12 attempts over about 19 minutes, is stored on dlq.ORDERS.crm.*", guarantee(make()))
        self.assertIn("Up to 32 at a time", guarantee(make()))
        strict = guarantee(make(ordering="strict"))
        self.assertIn("in the order of the stream", strict)
        self.assertIn("tried for ever", strict)


class ConsumerProblemTests(SynchronousTestCase):
    """:func:`consumer_problem`."""

    def test_problems(self) -> None:
        """Everything by which a consumer that is there would lose, mix up or repeat messages is found."""
        for changes, text in (
            ({}, None),
            ({"deliver_subject": "x"}, "push consumer"),
            ({"ack_policy": AckPolicy.NONE}, "ack policy"),
            ({"max_deliver": 5}, "max_deliver"),
            ({"backoff": [1.0], "max_deliver": -1}, "backoff"),
            ({"filter_subject": "orders.x"}, "filter"),
            ({"headers_only": True}, "payloads"),
        ):
            found = consumer_problem(make(), ConsumerConfig(durable="crm", **changes))
            self.assertTrue(found is None if text is None else found is not None and text in found, (changes, found))

    def test_filters(self) -> None:
        """Filters are the same in any order, and all is all."""
        self.assertIsNone(consumer_problem(make(filter=["a", "b"]), ConsumerConfig(filter_subjects=["b", "a"])))
        self.assertIsNone(consumer_problem(make(filter=">"), ConsumerConfig()))
        self.assertIsNone(consumer_problem(make(), ConsumerConfig(filter_subject=">")))
        self.assertIsNone(consumer_problem(make(filter="a"), ConsumerConfig(filter_subject="a")))

    def test_strict(self) -> None:
        """In strict order one message may be out at a time."""
        self.assertIsNotNone(consumer_problem(make(ordering="strict"), ConsumerConfig(max_ack_pending=1000)))
        self.assertIsNone(consumer_problem(make(ordering="strict"), ConsumerConfig(max_ack_pending=1)))
