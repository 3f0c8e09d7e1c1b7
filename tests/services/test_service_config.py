"""The rules of what services, groups and endpoints are told of themselves."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import ConfigurationError, ServiceConfigError
from pynats_twisted.services import ServiceConfig, ServiceRequest

from .served import ServedTestCase, silent


class ConfigTests(SynchronousTestCase):
    def refused(self, text: str, **options: Any) -> None:
        """A configuration is refused; the text names the value and the rule."""
        error = self.assertRaises(ServiceConfigError, ServiceConfig, **{"name": "shop", "version": "1.0.0", **options})
        self.assertIn(text, str(error))
        self.assertIsInstance(error, ConfigurationError)

    def test_defaults(self) -> None:
        """A name and a version are enough."""
        config = ServiceConfig("shop", "1.0.0")
        self.assertEqual((config.description, config.metadata, config.queue, config.prefix, config.id), ("", {}, "q", "$SRV", None))

    def test_names(self) -> None:
        """Names and ids have ASCII letters, digits, dashes and underscores, and nothing else."""
        for name in ("a", "A-b_9", "-"):
            self.assertEqual(ServiceConfig(name, "1.0.0", id=name).id, name)
        for wrong in ("", "a b", "a.b", "ä", "a\n", "*", 5):
            self.refused(f"name={wrong!r} must be made of ASCII letters", name=wrong)
            self.refused(f"id={wrong!r} must be made of ASCII letters", id=wrong)

    def test_versions(self) -> None:
        """Versions are semantic ones."""
        for version in ("0.0.0", "1.20.300", "1.0.0-alpha.1", "1.0.0-0a.-.x-y", "1.0.0+007.sha-5", "1.0.0-rc.1+b", "1.0.0--", "1.0.0-0"):
            self.assertEqual(ServiceConfig("shop", version).version, version)
        for wrong in ("", "1", "1.0", "1.0.0.0", "v1.0.0", "01.0.0", "1.00.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0+", "1.0.0+a+b"):
            self.refused(f"version={wrong!r} must be a semantic version", version=wrong)
        for other in ("1.0.0\n", " 1.0.0", "1.0.0 ", "1.0.0-ä", "\u0661.0.0", None, 1.0):
            self.refused(f"version={other!r}", version=other)

    def test_metadata(self) -> None:
        """Metadata are texts, and cannot be changed afterwards, neither by way of what was passed."""
        given = {"zone": "a"}
        config = ServiceConfig("shop", "1.0.0", metadata=given)
        given["zone"] = "b"
        metadata: Any = config.metadata
        self.assertEqual(metadata, {"zone": "a"})
        self.assertFalse(hasattr(metadata, "__setitem__") or hasattr(metadata, "update"))
        for wrong in ({"a": 1}, {1: "a"}, {"a": None}):
            self.refused("both must be a str", metadata=wrong)
        for other in ("a", [("a", "b")], 5):
            self.refused(f"metadata={other!r} must be a mapping", metadata=other)

    def test_other_values(self) -> None:
        """Whatever else is wrong is named with its rule."""
        self.refused("description=5 must be a str", description=5)
        for queue in ("", "a b", 5):
            self.refused(f"queue={queue!r}:", queue=queue)
        for prefix in ("", "a b", "$SRV.>", "a..b", "$SRV\r\nPUB x 0", None):
            self.refused(f"prefix={prefix!r}:", prefix=prefix)
        self.refused("middleware has 5, which cannot be called", middleware=[5])
        self.refused("must be a sequence of functions", middleware=len)
        self.refused("must be a sequence of functions", middleware="ab")
        self.refused("must be a sequence of functions", middleware=5)
        self.refused("stats_handler=5 cannot be called", stats_handler=5)
        self.refused("allow_replies='_INBOX.>' must be several patterns", allow_replies="_INBOX.>")
        self.refused("allow_replies=5 must be several patterns", allow_replies=5)
        self.refused("allow_replies='a b':", allow_replies=["_INBOX.>", "a b"])


class EndpointRuleTests(ServedTestCase):
    """What groups and endpoints may be called; what is refused leaves nothing."""

    def refused(self, text: str, call: Any, *args: Any, **options: Any) -> None:
        self.assertIn(text, str(self.assertRaises(ServiceConfigError, call, *args, **options)))

    def test_groups(self) -> None:
        """The prefix of a group is a subject without ``>``."""
        service = self.serve()
        for wrong in ("a b", "a.", ".a", 5, None):
            self.refused(f"prefix={wrong!r}:", service.add_group, wrong)
        self.refused("prefix='a.>' of a group has the wildcard '>'", service.add_group, "a.>")
        self.refused("queue='': ", service.add_group, "a", queue="")
        self.refused("middleware has None", service.add_group, "a", middleware=[None])

    def test_endpoints(self) -> None:
        """Names, subjects, queue groups and metadata of endpoints keep to the rules."""
        service = self.serve()
        add = service.add_group("g").add_endpoint
        for wrong in ("", "a.b", "a b", None):
            self.refused(f"name={wrong!r} must be made of", add, wrong, silent)
        for subject in ("", "a b", "a..b", ">.a", "a\r\nPUB x", 5):
            self.refused(f"subject={subject!r}:", add, "a", silent, subject=subject)
        self.refused("handler=5 cannot be called", add, "a", 5)
        self.refused("queue='a b':", add, "a", silent, queue="a b")
        self.refused("metadata has 'a': 1", add, "a", silent, metadata={"a": 1})
        self.refused("must be a sequence of functions", add, "a", silent, middleware=len)
        self.assertRaises(ConfigurationError, add, "a", silent, concurrency=0)
        for subject in ("$SRV", "$SRV.PING", "$SRV.>"):
            self.refused("is for discovery", service.add_endpoint, "a", silent, subject=subject)
        self.assertEqual((service.endpoints, len(self.nc.subscriptions)), ((), 9))

    def test_metadata_of_an_endpoint(self) -> None:
        """It is a copy that cannot be changed."""
        given = {"a": "1"}
        endpoint = self.serve().add_endpoint("a", silent, metadata=given)
        given.clear()
        self.assertEqual(endpoint.metadata, {"a": "1"})
        self.assertFalse(hasattr(endpoint.metadata, "__setitem__"))

    def test_several_of_a_name(self) -> None:
        """Several endpoints may have one name."""
        service = self.serve()
        service.add_endpoint("a", silent, subject="x")
        service.add_endpoint("a", silent, subject="y")
        self.assertEqual([(each.name, each.subject) for each in service.endpoints], [("a", "x"), ("a", "y")])

    def test_what_they_look_like(self) -> None:
        """Services, groups, endpoints and requests show what they are."""
        service = self.serve(id="one")
        shown: list[str] = []

        def handler(request: ServiceRequest) -> bytes:
            shown.append(repr(request))
            return b""

        endpoint = self.endpoint(handler, service=service)
        self.ask(data=b"abc")
        self.assertEqual(shown, ["<ServiceRequest 'do' 3 bytes>"])
        self.assertEqual(repr(service), "<Service 'shop' 1.0.0 one running, 1 endpoints>")
        self.assertEqual(repr(service.add_group("g")), "<Group 'g' of 'shop'>")
        self.assertEqual(repr(endpoint), "<Endpoint 'do' of 'shop' on 'do' queue='q', 1 requests>")
