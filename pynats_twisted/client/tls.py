"""TLS for connections: from the options to what Twisted wants."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from ..errors import ConfigurationError, MissingDependencyError, TLSError

if TYPE_CHECKING:
    from ..protocol.options import ClientOptions
    from ..protocol.servers import Server


def connection_creator(options: ClientOptions, server: Server) -> Any:
    """The ``IOpenSSLClientConnectionCreator`` for a server. Files are read anew at each connection, so that they can be renewed.

    :raises MissingDependencyError: the extra ``tls`` is not installed.
    :raises TLSError: a certificate or key file cannot be read.
    """
    try:
        from OpenSSL import SSL
        from twisted.internet import ssl
        from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
    except ImportError as error:
        raise MissingDependencyError('TLS needs an extra: pip install "pynats-twisted[tls]"') from error
    given = options.tls_options
    if given is not None:
        if IOpenSSLClientConnectionCreator.providedBy(given):
            return given
        if not callable(given):
            raise ConfigurationError(
                "tls_options is neither an IOpenSSLClientConnectionCreator nor a callable that makes one for a host name"
            )
        return given(server.tls_name)
    try:
        certificate = _client_certificate(ssl, options)
        trust_root = _authorities(ssl, options.tls_ca_file) if options.tls_ca_file is not None else None
    except (OSError, SSL.Error, ValueError) as error:
        raise TLSError(f"a TLS file cannot be used: {error}") from error
    extra: dict[str, Any] = {}
    if trust_root is not None:
        extra["trustRoot"] = trust_root
    return ssl.optionsForClientTLS(server.tls_name, clientCertificate=certificate, **extra)


def _client_certificate(ssl: Any, options: ClientOptions) -> Any:
    if options.tls_cert_file is None:
        return None
    certificate = _read(options.tls_cert_file)
    key = _read(options.tls_key_file) if options.tls_key_file is not None else certificate
    return ssl.PrivateCertificate.loadPEM(key + b"\n" + certificate)


def _authorities(ssl: Any, path: str | PathLike[str]) -> Any:
    text = _read(path)
    marker = b"-----BEGIN CERTIFICATE-----"
    certificates = [ssl.Certificate.loadPEM(marker + part) for part in text.split(marker)[1:]]
    if not certificates:
        raise ValueError(f"{fspath(path)} has no certificate in PEM form")
    return ssl.trustRootFromCertificates(certificates)


def _read(path: str | PathLike[str]) -> bytes:
    return Path(path).read_bytes()


def tls_error(reason: Failure) -> TLSError | None:
    """The error for a connection that ended with ``reason``, if that was TLS's doing."""
    try:
        from OpenSSL import SSL
        from service_identity import VerificationError
    except ImportError:
        return None
    if not reason.check(SSL.Error, VerificationError):
        return None
    error = TLSError(f"TLS failed: {_explained(reason.value)}")
    error.__cause__ = reason.value
    return error


def _explained(error: BaseException | None) -> str:
    problems = getattr(error, "errors", None)
    if problems:
        return f"the certificate is not for the name that was asked for: {problems}"
    if error is None:
        return "no reason was given"
    if error.args and isinstance(error.args[0], list):
        return "; ".join(str(part[-1]) for part in error.args[0] if part) or type(error).__name__
    return str(error) or type(error).__name__
