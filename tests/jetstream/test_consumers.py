"""Asking for consumers, with a server in memory whose answers are old, or odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.api import ConsumerAction, ConsumerConfig
from pynats_twisted.jetstream.consumer import Consumer
from pynats_twisted.jetstream.consumer_create import ask_for_consumer
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.testing import MemoryNetwork, PublishFrame, connected_client

API = "$JS.API.CONSUMER."
KIND = "io.nats.jetstream.api.v1.consumer_"
NOT_FOUND = {"code": 404, "err_code": 10014, "description": "consumer not found"}


class ConsumerTestCase(SynchronousTestCase):
    """A server that makes every consumer as it is asked to, but for the fields in ``dropped``."""

    api_level = 0

    def setUp(self) -> None:
        network = MemoryNetwork()
        network.server().info["api_lvl"] = self.api_level
        self.client, self.server, self.network = connected_client(self, network=network)
        self.js = JetStreamContext(self.client)
        self.dropped: tuple[str, ...] = ()
        self.made: dict[str, Any] = {}
        self.server.respond(f"{API}CREATE.>", self.create)
        self.server.respond(f"{API}INFO.>", self.info)
        self.server.respond(f"{API}DELETE.>", self.delete)

    def create(self, frame: PublishFrame) -> bytes:
        request = json.loads(frame.payload)
        config = {key: value for key, value in request["config"].items() if key not in self.dropped}
        name = frame.subject.split(".")[5]
        self.made[name] = {"type": f"{KIND}create_response", "stream_name": "S", "name": name, "config": config}
        return json.dumps(self.made[name]).encode()

    def info(self, frame: PublishFrame) -> bytes:
        name = frame.subject.split(".")[5]
        if name not in self.made:
            return json.dumps({"type": f"{KIND}info_response", "error": NOT_FOUND}).encode()
        return json.dumps({**self.made[name], "type": f"{KIND}info_response"}).encode()

    def delete(self, frame: PublishFrame) -> bytes:
        del self.made[frame.subject.split(".")[5]]
        return json.dumps({"type": f"{KIND}delete_response", "success": True}).encode()

    def asked(self) -> list[str]:
        """The subjects of the requests, without their common beginning."""
        return [frame.subject.removeprefix(API) for frame in self.server.published(f"{API}>")]

    def ask(self, config: ConsumerConfig, action: ConsumerAction = ConsumerAction.CREATE, js: JetStreamContext | None = None) -> Any:
        return self.network.run(ask_for_consumer(js or self.js, "S", config, action))


class SubjectTests(ConsumerTestCase):
    """Where the request goes."""

    def test_filter_is_in_the_subject(self) -> None:
        """With one filter subject the request's subject has it, so that permissions can be given by it; with several, or none, not."""
        self.ask(ConsumerConfig(durable="d", filter_subject="orders.*"))
        self.ask(ConsumerConfig(name="n"))
        self.assertEqual(self.asked(), ["CREATE.S.d.orders.*", "CREATE.S.n"])
        self.server.forget_frames()
        self.ask(ConsumerConfig(name="m", filter_subjects=["a", "b"]))
        self.assertEqual(self.asked()[-1], "CREATE.S.m")

    def test_name_is_made(self) -> None:
        """A consumer without a name gets one: a repeated request makes no second consumer. Each gets its own."""
        first, second = self.ask(ConsumerConfig()), self.ask(ConsumerConfig())
        self.assertEqual(len({first.name, second.name}), 2)
        requests = [json.loads(frame.payload) for frame in self.server.published(f"{API}CREATE.>")]
        self.assertEqual([request["config"]["name"] for request in requests], [first.name, second.name])

    def test_action(self) -> None:
        """The request says whether the consumer may be there, must be, or must not."""
        for action in ConsumerAction:
            self.ask(ConsumerConfig(name="n"), action)
        requests = [json.loads(frame.payload) for frame in self.server.published(f"{API}CREATE.>")]
        self.assertEqual([request.get("action", "") for request in requests], ["", "create", "update"])

    def test_bad_configurations(self) -> None:
        """What breaks a rule is refused with the name of its field, and nothing is sent."""
        for config, field in (
            (ConsumerConfig(name="a.b"), "name"),
            (ConsumerConfig(durable="a b"), "durable"),
            (ConsumerConfig(name="a", durable="b"), "name"),
            (ConsumerConfig(filter_subject="a..b"), "filter_subject"),
            (ConsumerConfig(filter_subject="a", filter_subjects=["b"]), "filter_subject"),
            (ConsumerConfig(filter_subjects=["a.*", "a.b"]), "filter_subjects"),
        ):
            with self.assertRaises(errors.JetStreamConfigError) as raised:
                self.ask(config)
            self.assertEqual(raised.exception.field, field)
        with self.assertRaises(errors.JetStreamConfigError):
            self.ask(ConsumerConfig(), ConsumerAction.UPDATE)
        with self.assertRaises(errors.InvalidArgumentError):
            self.ask({"name": "x"})  # type: ignore[arg-type]
        with self.assertRaises(errors.InvalidNameError):
            self.network.run(ask_for_consumer(self.js, "S.*", ConsumerConfig()))
        self.assertEqual(self.asked(), [])


class OldServerTests(ConsumerTestCase):
    """Servers that drop ``filter_subjects`` without a word (ADR-34)."""

    several = ConsumerConfig(name="n", filter_subjects=["a", "b"])

    def setUp(self) -> None:
        super().setUp()
        self.dropped = ("filter_subjects",)

    def test_new_consumer_is_deleted(self) -> None:
        """A consumer that would deliver other messages than asked for is not left behind."""
        with self.assertRaises(errors.JetStreamApiLevelError) as raised:
            self.ask(self.several)
        self.assertIn("filter_subjects", str(raised.exception))
        self.assertEqual(raised.exception.features, ("filter_subjects",))
        self.assertEqual(self.made, {})

    def test_consumer_that_was_there_is_not_deleted(self) -> None:
        """Somebody else's consumer stays, whatever became of it."""
        self.ask(ConsumerConfig(name="n"))
        for action in ConsumerAction:
            with self.assertRaises(errors.JetStreamApiLevelError):
                self.ask(self.several, action)
        self.assertEqual(list(self.made), ["n"])


class NewServerTests(ConsumerTestCase):
    """Servers with an API level know ``filter_subjects``."""

    api_level = 1
    several = ConsumerConfig(name="n", filter_subjects=["a", "b"])

    def test_one_request(self) -> None:
        """Nothing else is asked of them."""
        self.assertEqual(self.ask(self.several).config.filter_subjects, ("a", "b"))
        self.assertEqual(self.asked(), ["CREATE.S.n"])

    def test_old_server_behind_it(self) -> None:
        """The server that we are connected to may be newer than the one that answers behind a prefix."""
        self.dropped = ("filter_subjects",)
        for verb, answer in (("CREATE", self.create), ("INFO", self.info), ("DELETE", self.delete)):
            self.server.respond(f"$JS.hub.API.CONSUMER.{verb}.>", self.behind(answer))
        with self.assertRaises(errors.JetStreamApiLevelError):
            self.ask(self.several, js=JetStreamContext(self.client, domain="hub"))
        self.assertEqual(self.made, {})

    def behind(self, answer: Callable[[PublishFrame], bytes]) -> Callable[[PublishFrame], bytes]:
        return lambda frame: answer(replace(frame, subject=frame.subject.replace("$JS.hub.", "$JS.")))


class HandleTests(ConsumerTestCase):
    """The handle of a consumer."""

    api_level = 4

    def setUp(self) -> None:
        super().setUp()
        self.consumer = Consumer(self.js, self.ask(ConsumerConfig(durable="d", description="old")))
        self.server.forget_frames()

    def test_names(self) -> None:
        """It knows its names and its configuration without asking."""
        self.assertEqual((self.consumer.name, self.consumer.stream_name, self.consumer.config.durable), ("d", "S", "d"))
        self.assertEqual(repr(self.consumer), "<Consumer 'd' of stream 'S'>")
        self.assertEqual(self.asked(), [])

    def test_update_of_another(self) -> None:
        """An update with the name of another consumer is refused; without a name it is of this one."""
        with self.assertRaises(errors.JetStreamConfigError):
            self.network.run(self.consumer.update(ConsumerConfig(name="other")))
        self.network.run(self.consumer.update(ConsumerConfig(description="new")))
        self.assertEqual(self.asked(), ["CREATE.S.d"])
        self.assertEqual(self.consumer.config.description, "new")

    def test_wrong_arguments(self) -> None:
        """What cannot be meant is refused before anything is sent."""
        for wrong in (0, -1, float("nan"), float("inf"), "5", True, None):
            self.failureResultOf(self.consumer.pause(wrong), errors.InvalidArgumentError)  # type: ignore[arg-type]
        for seq in (0, -1, 1.5, True, "1"):
            self.failureResultOf(self.consumer.reset(seq), errors.InvalidArgumentError)  # type: ignore[arg-type]
        self.failureResultOf(self.consumer.unpin("not a group"), errors.JetStreamConfigError)
        self.assertEqual(self.asked(), [])

    def test_gone(self) -> None:
        """A consumer that is gone is that for each call."""
        self.made.clear()
        with self.assertRaises(errors.ConsumerNotFoundError):
            self.network.run(self.consumer.info())
