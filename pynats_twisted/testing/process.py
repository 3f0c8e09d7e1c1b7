"""A real nats-server for tests.

:class:`ServerProcess` is for programs with a reactor: its operations return Deferreds. :meth:`ServerProcess.running` gives a
:class:`BlockingServerProcess` to programs without one (pytest, scripts). Both do the same, and need POSIX signals.

::

    class MyTests(twisted.trial.unittest.TestCase):
        async def test_orders(self):
            server = ServerProcess(reactor, jetstream=True)
            self.addCleanup(server.close)
            await server.start()
            ... server.url ...

    def test_orders():
        with ServerProcess.running(jetstream=True) as server:
            ... server.url ...
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pynats_twisted.errors import ServerProcessError
from pynats_twisted.testing.operations import ServerOperations
from pynats_twisted.testing.settings import ClusterMember, ServerOptions, ServerSettings
from pynats_twisted.testing.steps import Steps, run_blocking, run_with_reactor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pynats_twisted.testing.certificates import CertificateAuthority, CertificateFiles

_T = TypeVar("_T")


class _Server(ServerOperations):
    """What both kinds of server offer without waiting."""

    @property
    def authority(self) -> CertificateAuthority:
        """Who issued its certificate.

        :raises ServerProcessError: the server has no TLS.
        """
        return self._require_tls()

    @property
    def ca_file(self) -> Path:
        """The certificate that clients have to trust, as PEM.

        :raises ServerProcessError: the server has no TLS.
        """
        self._require_tls()
        return self.directory / "ca.pem"

    def client_certificate(self, name: str = "client", **options: Any) -> CertificateFiles:
        """Files with a certificate for a client, in the server's directory. The options are those of
        :meth:`~pynats_twisted.testing.certificates.CertificateAuthority.issue_client`.

        :raises ServerProcessError: the server has no TLS.
        """
        return self._require_tls().issue_client(name, **options).write(self.directory, f"client-{name}")

    def _require_tls(self) -> CertificateAuthority:
        if self._authority is None:
            raise ServerProcessError("this server has no certificates; it was made without tls")
        return self._authority


class ServerProcess(_Server):
    """A nats-server for programs with a reactor.

    Its port is chosen and reserved when it is made, and stays the same until it is closed: a client can be started before the
    server, and finds it again after a restart. What was not closed is ended with the object, or with the interpreter.

    :param reactor: the reactor.
    :param config: more configuration of the server, as text or mapping.
    :param options: see :class:`~pynats_twisted.testing.settings.ServerSettings`.
    :raises ConfigurationError: an option is unknown or breaks a rule.
    :raises ServerProcessError: the port is in use.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        config: str | Mapping[str, Any] | None = None,
        *,
        cluster_member: ClusterMember | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        self._reactor = reactor
        super().__init__(ServerSettings.from_keywords(config, options), cluster_member)

    def _now(self) -> float:
        return self._reactor.seconds()

    def _run(self, steps: Steps[_T]) -> Deferred[_T]:
        return run_with_reactor(self._reactor, steps)

    @staticmethod
    @contextlib.contextmanager
    def running(config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]) -> Iterator[BlockingServerProcess]:
        """A started server for programs without a reactor, closed at the end of the ``with`` block.

        The parameters are those of the class, without the reactor.
        """
        server = BlockingServerProcess(config, **options)
        try:
            yield server.start()
        finally:
            server.close()

    def start(self) -> Deferred[ServerProcess]:
        """Start it; fires with the server when it accepts clients. Cancelling ends it.

        :raises MissingDependencyError: the program nats-server is not there.
        :raises ServerProcessError: it runs already, or did not start within ``start_timeout``; the text ends with its log.
        """
        return self._run(self._starting())

    def stop(self) -> Deferred[int | None]:
        """Stop it in an orderly way (SIGTERM), or after ``stop_timeout`` by force; fires with its exit code.

        Its files and its port stay, so that it can be started again. Does nothing when it is not running.
        """
        return self._run(self._stopping())

    def kill(self) -> Deferred[int | None]:
        """End it at once (SIGKILL); fires when it has ended. Does nothing when it is not running."""
        return self._run(self._killing())

    def restart(self, *, kill: bool = False, down: float = 0.0) -> Deferred[ServerProcess]:
        """Stop it, or kill it, and start it again on the same port with the same data.

        :param down: seconds to stay down.
        """
        return self._run(self._restarting(kill=kill, down=down))

    def pause(self) -> Deferred[None]:
        """Freeze it (SIGSTOP): its connections stay open and nothing answers. Fires when it has stopped."""
        return self._run(self._pausing())

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        self._resume()

    def lame_duck(self) -> Deferred[None]:
        """Tell it to send its clients away and end (SIGUSR2). Fires when it has begun; see ``lame_duck_grace``."""
        return self._run(self._entering_lame_duck())

    def reload(self, **changes: Any) -> Deferred[None]:
        """Change options of the running server (SIGHUP); fires when they count. They also count after a restart.

        :param changes: options to replace, such as ``config`` or ``users``; without any, what an operator's accounts have
            become is sent.
        :raises ServerProcessError: the server refused; the text has its reason, and it goes on with the options it had.
        """
        return self._run(self._reloading(changes))

    def wait_ended(self, timeout: float = 10.0) -> Deferred[int]:
        """Fires with the exit code when it has ended by itself, for example after :meth:`lame_duck`.

        :raises ServerProcessError: it still runs after ``timeout`` seconds.
        """
        return self._run(self._ending(timeout))

    def monitor(self, page: str, **parameters: Any) -> Deferred[dict[str, Any]]:
        """A monitoring page (``"varz"``, ``"connz"``, ``"healthz"``, ...) as the dictionary that its JSON is.

        :raises ServerProcessError: it was made without ``monitoring=True``, or does not answer.
        """
        return self._run(self._asking(page, parameters))

    def close(self) -> Deferred[None]:
        """Stop it, give its ports back and remove its temporary directory. It cannot be started again."""
        return self._run(self._closing())

    async def __aenter__(self) -> ServerProcess:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


class BlockingServerProcess(_Server):
    """A nats-server for programs without a reactor: the same as :class:`ServerProcess`, with calls that block.

    Also a context manager, which starts it and closes it.
    """

    def __init__(
        self,
        config: str | Mapping[str, Any] | None = None,
        *,
        cluster_member: ClusterMember | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(ServerSettings.from_keywords(config, options), cluster_member)

    def _now(self) -> float:
        return time.monotonic()

    def start(self) -> BlockingServerProcess:
        """Start it; returns the server when it accepts clients. See :meth:`ServerProcess.start`."""
        return run_blocking(self._starting())

    def stop(self) -> int | None:
        """Stop it in an orderly way; returns its exit code. See :meth:`ServerProcess.stop`."""
        return run_blocking(self._stopping())

    def kill(self) -> int | None:
        """End it at once. See :meth:`ServerProcess.kill`."""
        return run_blocking(self._killing())

    def restart(self, *, kill: bool = False, down: float = 0.0) -> BlockingServerProcess:
        """Stop or kill it, and start it again. See :meth:`ServerProcess.restart`."""
        return run_blocking(self._restarting(kill=kill, down=down))

    def pause(self) -> None:
        """Freeze it. See :meth:`ServerProcess.pause`."""
        run_blocking(self._pausing())

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        self._resume()

    def lame_duck(self) -> None:
        """Tell it to send its clients away and end. See :meth:`ServerProcess.lame_duck`."""
        run_blocking(self._entering_lame_duck())

    def reload(self, **changes: Any) -> None:
        """Change options of the running server. See :meth:`ServerProcess.reload`."""
        run_blocking(self._reloading(changes))

    def wait_ended(self, timeout: float = 10.0) -> int:
        """Wait until it has ended by itself; returns its exit code. See :meth:`ServerProcess.wait_ended`."""
        return run_blocking(self._ending(timeout))

    def monitor(self, page: str, **parameters: Any) -> dict[str, Any]:
        """A monitoring page. See :meth:`ServerProcess.monitor`."""
        return run_blocking(self._asking(page, parameters))

    def close(self) -> None:
        """Stop it, give its ports back and remove its temporary directory. It cannot be started again."""
        run_blocking(self._closing())

    def __enter__(self) -> BlockingServerProcess:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
