"""TLS by the standard library: from the options to a context, and a channel that speaks it."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, TLSError
from .sockets import READ_SIZE, Channel, Wanted

if TYPE_CHECKING:
    from ..protocol.options import ClientOptions
    from ..protocol.servers import Server


def check_options(options: ClientOptions) -> None:
    """Check the option ``tls_options`` as far as that can be done without a server.

    :raises ConfigurationError: it is of no use here.
    """
    given = options.tls_options
    if given is not None and not isinstance(given, ssl.SSLContext) and not callable(given):
        raise ConfigurationError("tls_options: the blocking client takes an ssl.SSLContext, or a callable that makes one from a host name")


def context_for(options: ClientOptions, server: Server) -> ssl.SSLContext:
    """The context for a connection to a server. Files are read anew at each connection, so that they can be renewed.

    :raises ConfigurationError: what ``tls_options`` gave is no ``ssl.SSLContext``.
    :raises TLSError: a certificate or key file cannot be used.
    """
    given = options.tls_options
    if given is not None:
        context = given if isinstance(given, ssl.SSLContext) else given(server.tls_name)  # type: ignore[operator]
        if not isinstance(context, ssl.SSLContext):
            raise ConfigurationError(f"tls_options: it gave a {type(context).__name__} for {server.tls_name!r}, not an ssl.SSLContext")
        return context
    try:
        context = ssl.create_default_context(cafile=options.tls_ca_file)
        if options.tls_cert_file is not None:
            # An empty password: without one OpenSSL would ask for it on the terminal.
            context.load_cert_chain(options.tls_cert_file, options.tls_key_file, password="")
    except (OSError, ValueError) as error:
        raise TLSError(f"a TLS file cannot be used: {error}") from error
    return context


def tls_error(error: OSError) -> TLSError:
    """The error for what the ssl module raised."""
    told = TLSError(f"TLS failed: {_explained(error)}")
    told.__cause__ = error
    return told


def _explained(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {error.verify_message}"
    reason = getattr(error, "reason", None)
    return str(reason) if reason else str(error) or type(error).__name__


class TLSChannel(Channel):
    """A stream of bytes to a server, in TLS.

    Made from a channel in the clear, whose socket it takes over. :meth:`shake_hands` until that is done; then it is as any other.

    :raises TLSError: the context cannot be used for this server.
    """

    encrypted = True
    socket: ssl.SSLSocket

    def __init__(self, clear: Channel, context: ssl.SSLContext, server: Server) -> None:
        name = server.tls_name or None
        try:
            wrapped = context.wrap_socket(clear.socket, server_hostname=name, do_handshake_on_connect=False)
        except ssl.SSLError as error:
            raise tls_error(error) from error
        except ValueError as error:
            # No name for a context that checks names: a UNIX socket has none of its own.
            raise TLSError(f"TLS to {server.url} cannot begin: {error} (the option tls_server_name gives a name)") from error
        super().__init__(wrapped)
        self._receive_waits_for_write = False
        self._send_waits_for_read = False

    def shake_hands(self) -> Wanted | None:
        """Go on with the handshake; returns what to wait for before the next call, or None when it is done.

        :raises TLSError: it failed.
        """
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            return Wanted(self.socket, True, False)
        except ssl.SSLWantWriteError:
            return Wanted(self.socket, False, True)
        except OSError as error:
            raise tls_error(error) from error
        return None

    def receive(self) -> bytes | None:
        """As :meth:`Channel.receive`; :raises TLSError: TLS failed."""
        self._receive_waits_for_write = False
        try:
            return self.socket.recv(READ_SIZE)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self._receive_waits_for_write = True
            return None
        except ssl.SSLError as error:
            raise tls_error(error) from error

    def send(self, data: memoryview) -> int:
        """As :meth:`Channel.send`; :raises TLSError: TLS failed."""
        self._send_waits_for_read = False
        try:
            return self.socket.send(data)
        except ssl.SSLWantWriteError:
            return 0
        except ssl.SSLWantReadError:
            self._send_waits_for_read = True
            return 0
        except ssl.SSLError as error:
            raise tls_error(error) from error

    def wanted(self, write: bool) -> Wanted:
        """What to wait for. TLS may have to read in order to write, and the other way round."""
        return Wanted(self.socket, True, self._receive_waits_for_write or (write and not self._send_waits_for_read))

    def end_sending(self) -> None:
        """Tell the peer that no more comes: by TLS, as far as that goes at once, and by TCP."""
        with contextlib.suppress(OSError, ValueError):
            self.socket.unwrap()
        super().end_sending()
