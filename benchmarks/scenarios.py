"""What is measured. A new scenario is a line here, and a function in ``clients/driver.py`` if it is a new kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Figure = Literal["cpu", "elapsed", "bytes"]
Holds = Literal["", "keys", "objects"]


@dataclass(frozen=True)
class Scenario:
    """One thing to measure.

    :ivar title: for people, in the documentation.
    :ivar kind: the function of ``clients/driver.py``; ``import`` is measured without one.
    :ivar count: how many messages, requests, connections or subscriptions are measured.
    :ivar warmup: how many come before.
    :ivar unit: what is counted.
    :ivar figure: what is compared: CPU time, elapsed time, or bytes of memory, each of one unit.
    :ivar feeder: another process publishes or answers.
    :ivar tls: the server demands TLS; :ivar jetstream: it has JetStream, with a new store, and a stream in memory with a consumer.
    :ivar stored: the stream has all the messages before the client starts; :ivar work_queue: it drops what is acked.
    :ivar holds: the stream is a key-value bucket or an object store; a bucket that is to be read has all its keys before (``stored``).
    :ivar seconds: of :class:`~benchmarks.clients.job.Job`.
    :ivar most_rounds: rounds are many where a figure varies; one that hardly does needs no more than these.
    """

    name: str
    title: str
    kind: str
    count: int
    size: int = 0
    warmup: int = 2000
    in_flight: int = 1
    unit: str = "message"
    figure: Figure = "cpu"
    feeder: bool = False
    tls: bool = False
    jetstream: bool = False
    stored: bool = False
    work_queue: bool = False
    holds: Holds = ""
    seconds: float = 3.0
    most_rounds: int = 1000


SCENARIOS: Sequence[Scenario] = (
    Scenario("pub_16b", "``await publish`` of 16 bytes, in a loop", "publish", 200_000, 16),
    Scenario("pub_128b", "``await publish`` of 128 bytes, in a loop", "publish", 200_000, 128),
    Scenario("pub_1k", "``await publish`` of 1 KiB, in a loop", "publish", 60_000, 1024),
    Scenario("pub_64k", "``await publish`` of 64 KiB, in a loop", "publish", 4_000, 65_536, warmup=100),
    Scenario("sub_16b", "a handler gets 16 bytes from another process", "receive", 200_000, 16, feeder=True),
    Scenario("sub_128b", "a handler gets 128 bytes from another process", "receive", 200_000, 128, feeder=True),
    Scenario("sub_1k", "a handler gets 1 KiB from another process", "receive", 60_000, 1024, feeder=True),
    Scenario("sub_128b_iter", "``async for`` gets 128 bytes from another process", "iterate", 100_000, 128, feeder=True),
    Scenario("pubsub_16b", "one connection publishes 16 bytes and gets them back in a handler", "pubsub", 60_000, 16),
    Scenario(
        "roundtrip_latency", "a request at a time, answered by another process", "latency", 3_000, 16,
        warmup=100, unit="request", feeder=True,
    ),
    Scenario(
        "reqrep_64", "64 requests in flight, answered by a coroutine on the same connection", "requests", 12_800, 16,
        warmup=640, in_flight=64, unit="request",
    ),
    Scenario("connect_time", "connect, until the server has confirmed it", "connect", 50, warmup=5, unit="connection", figure="elapsed"),
    Scenario("import_time", "import what a first program needs, in a new interpreter", "import", 1, unit="import", figure="elapsed"),
    Scenario(
        "memory_100k_subs", "100,000 subscriptions with a handler", "memory", 100_000,
        warmup=1000, unit="subscription", figure="bytes", most_rounds=3,
    ),
    Scenario("tls_pub_1k", "``await publish`` of 1 KiB over TLS, in a loop", "publish", 40_000, 1024, tls=True),
    Scenario("tls_sub_1k", "a handler gets 1 KiB over TLS from another process", "receive", 40_000, 1024, feeder=True, tls=True),
    Scenario(
        "js_publish_sync", "``await js.publish`` of 128 bytes into a stream, in a loop: each waits for its ack", "js_publish_sync",
        10_000, 128, warmup=500, jetstream=True,
    ),
    Scenario(
        "js_publish_async", "publish 128 bytes into a stream, with a window of 4,000 that wait for their acks", "js_publish_async",
        60_000, 128, warmup=5000, jetstream=True,
    ),
    Scenario(
        "js_consume", "a durable pull consumer gives 128 bytes out of a stream, and gets an ack for each", "js_consume",
        100_000, 128, warmup=5000, jetstream=True, stored=True,
    ),
    Scenario(
        "kv_put", "``await kv.put`` of 128 bytes, in a loop over 10,000 keys", "kv_put",
        10_000, 128, warmup=500, unit="key", jetstream=True, holds="keys",
    ),
    Scenario(
        "kv_get", "``await kv.get`` of 128 bytes, in a loop over 10,000 keys", "kv_get",
        10_000, 128, warmup=500, unit="key", jetstream=True, stored=True, holds="keys",
    ),
    Scenario(
        "kv_get_many", "10,000 keys by one ``await kv.get_many``", "kv_get_many",
        10_000, 128, warmup=500, unit="key", figure="elapsed", jetstream=True, stored=True, holds="keys",
    ),
    Scenario(
        "os_roundtrip", "an object of 1 MiB is put and got again, one at a time", "os_roundtrip",
        64, 1_048_576, warmup=4, unit="object", jetstream=True, holds="objects",
    ),
    Scenario(
        "os_memory", "an object of 1 GiB is put and got piece by piece: by how much the process grows meanwhile", "os_memory",
        1, 1_073_741_824, warmup=0, unit="object", figure="bytes", jetstream=True, holds="objects", most_rounds=3,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """How the CPU time of one message changes with something that grows. Measured for this package alone.

    :ivar label: what grows.
    """

    name: str
    title: str
    label: str
    kind: str
    count: int
    size: int = 16
    steps: Sequence[int] = (1, 10, 100, 1_000, 10_000, 100_000)

    def scenarios(self) -> list[Scenario]:
        """One for each step."""
        return [
            Scenario(f"{self.name}_{step}", self.title, self.kind, self.count, self.size, in_flight=step, feeder=True)
            for step in self.steps
        ]


CURVES: Sequence[Curve] = (
    Curve("subscriptions", "many subscriptions, messages to all in turn", "subscriptions", "growth_subscriptions", 100_000),
    Curve("idle", "many subscriptions, messages to 100 of them", "idle subscriptions", "growth_idle", 100_000),
    Curve("requests", "many requests in flight", "requests in flight", "growth_requests", 10_000),
    Curve("waiting", "messages come and are taken while many wait", "messages waiting", "growth_waiting", 50_000),
)

# ``in_flight`` is how many messages pass between two looks at the size of the process.
MEMORY = Scenario(
    "js_memory", "messages are published with a window, consumed and acked on one connection", "js_memory", 1_000_000, 128,
    warmup=0, in_flight=50_000, figure="bytes", jetstream=True, work_queue=True, seconds=50.0,
)  # fmt: skip
"""How large the process is while many messages pass. Measured for this package alone."""
