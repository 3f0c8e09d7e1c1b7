"""Where a webhook connects to: the endpoint of its target, with TLS and without private addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pynats_twisted.bridge.private_addresses import PublicReactor
from pynats_twisted.bridge.webhook_config import TargetURL, TLSSection, WebhookConfig
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator


_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


def make_endpoint(reactor: Any, target: TargetURL, config: WebhookConfig) -> tuple[IStreamClientEndpoint, Callable[[], list[str]]]:
    """The endpoint of a target, and what tells which addresses were refused the last time.

    Names are resolved for each new connection, so that a target may move.

    :raises ConfigurationError: a certificate cannot be read or used.
    """
    refused: Callable[[], list[str]] = list
    base = reactor
    if not config.allow_private:
        public = PublicReactor(reactor)
        base = public

        def refused() -> list[str]:
            return public.nameResolver.refused

    endpoint: IStreamClientEndpoint = HostnameEndpoint(base, target.host, target.port, timeout=config.connect_timeout)
    if target.is_tls:
        endpoint = wrapClientTLS(_tls_options(target.host, config.tls), endpoint)
    return endpoint, refused


def _tls_options(host: str, section: TLSSection) -> IOpenSSLClientConnectionCreator:
    from OpenSSL.SSL import Error
    from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

    try:
        trust: Any = platformTrust()
        if section.ca is not None:
            blocks = _read(section.ca).split(_BEGIN)[1:]
            trust = trustRootFromCertificates([Certificate.loadPEM((_BEGIN + block).encode("ascii")) for block in blocks])
            if not blocks:
                raise ConfigurationError(f"tls.ca: {section.ca} has no certificate")
        own = None
        if section.cert is not None:
            pem = _read(section.cert) + ("\n" + _read(section.key) if section.key is not None else "")
            own = PrivateCertificate.loadPEM(pem.encode("ascii"))
        options: IOpenSSLClientConnectionCreator = optionsForClientTLS(host, trustRoot=trust, clientCertificate=own)
    except (OSError, Error, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise ConfigurationError(f"tls: a certificate or key cannot be used: {reason}") from None
    return options


def _read(path: str) -> str:
    with open(path, encoding="ascii") as stream:
        return stream.read(1024 * 1024)
