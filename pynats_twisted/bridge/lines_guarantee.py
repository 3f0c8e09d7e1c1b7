"""What routes for lines promise, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pynats_twisted.bridge.lines_base_config import LinesBaseConfig

_CORE: Final = "The NATS server hands it to the subscribers of the moment and stores nothing."
_DISK: Final = (
    "A stream has stored what its PubAck confirms, but writes it to its disk a little later, unless the server's sync_interval says always."
)


def guarantee(config: LinesBaseConfig, ok: str = "") -> str:
    """What a route with this configuration promises.

    :param ok: what a peer is told of a line that reached the confirm level; empty when it is told nothing.
    """
    if config.kind == "udp":
        return _udp(config)
    if config.confirm == "none":
        first = "At most once. A line is done when the NATS client has buffered it; what is buffered is lost when the bridge ends abruptly"
        if ok:
            first += f", although its peer was told {ok!r} already"
        return f"{first}. {_CORE}"
    return _stored(config, ok) if config.confirm == "jetstream" else _at_the_server(ok)


def _udp(config: LinesBaseConfig) -> str:
    first = "At most once. UDP itself loses datagrams; when NATS is down or too slow, the oldest waiting lines are dropped and counted."
    if config.confirm != "jetstream":
        return f"{first} {_CORE}"
    return f"{first} What no stream has stored after {config.effective_retry_for:g} s is dropped and counted as well. {_DISK}"


def _at_the_server(ok: str) -> str:
    if ok:
        return (
            f"At least once up to the NATS server, for a peer that sends again what was not answered with {ok!r}: "
            f"the answer is written when the server has the line. {_CORE}"
        )
    return (
        "At least once up to the NATS server for every line that the bridge has read, as long as the bridge runs: what was not "
        "confirmed when a connection was lost is published again, so a line may come twice. The peer gets no answer from the bridge, so "
        f"lines on their way are lost when it, the bridge or the network fails. {_CORE}"
    )


def _stored(config: LinesBaseConfig, ok: str) -> str:
    tried = "as long as the bridge runs" if config.retry_for is None else f"for {config.retry_for:g} s, and refused then"
    again = f"What is not stored at once is published again, {tried}"
    if config.message_ids:
        again += "; the stream stores it once, as far as its duplicate window reaches"
    else:
        again += "; without message ids the stream may store it twice"
    if ok:
        return (
            f"At least once into a stream, for a peer that sends again what was not answered with {ok!r}: the answer is written after the "
            f"PubAck. {again}; what the peer itself sends again is another message. {_DISK}"
        )
    return (
        f"At least once into a stream for every line that the bridge has read, as long as the bridge runs. {again}. The peer gets no "
        f"answer from the bridge, so lines on their way are lost when it, the bridge or the network fails. {_DISK}"
    )
