"""Certificates for tests of TLS: an authority, and what it issues to servers and clients.

Needs the package ``cryptography``, which the extra ``tls`` installs. Nothing here is meant for production: the keys are
unprotected and the authority is forgotten with the process.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from pynats_twisted.errors import MissingDependencyError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    raise MissingDependencyError('making certificates needs the package "cryptography": pip install "pynats-twisted[tls]"') from error

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
"""The names of a server certificate when none are given: every way to say this machine."""

DAY = 86400.0


class CertificateFiles(NamedTuple):
    """Where a certificate and its key were written, as PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def write(self, directory: str | os.PathLike[str], name: str) -> CertificateFiles:
        """Write ``NAME.pem`` and ``NAME.key`` (readable by the owner alone) into ``directory``, which is made if need be."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        files = CertificateFiles(folder / f"{name}.pem", folder / f"{name}.key")
        files.certificate.write_bytes(self.certificate_pem)
        with open(files.key, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as key:
            key.write(self.key_pem)
        return files


class CertificateAuthority:
    """Issues certificates that whoever trusts :attr:`certificate_pem` accepts.

    :ivar certificate_pem: the authority's own certificate.

    :param name: its common name.
    """

    def __init__(self, name: str = "pynats-twisted test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _distinguished(name)
        builder = _builder(self._name, self._name, self._key.public_key(), DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        signed = builder.add_extension(_key_usage(signs_certificates=True), critical=True).sign(self._key, hashes.SHA256())
        self.certificate_pem = signed.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, names: Sequence[str] = SERVER_NAMES, *, expires_in: float = DAY) -> Certificate:
        """A certificate for a server.

        :param names: the host names and addresses that it is valid for, as subject alternative names.
        :param expires_in: seconds from now; negative for one that has expired.
        """
        return self._issue(names[0] if names else "server", names, expires_in, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_client(self, name: str = "client", names: Sequence[str] = (), *, expires_in: float = DAY) -> Certificate:
        """A certificate for a client of a server that verifies its clients.

        :param name: the common name. A server with ``verify_and_map`` knows the client as the user ``CN=NAME``.
        :param names: subject alternative names; one with an ``@`` is a mail address, which such a server tries as user first.
        :param expires_in: seconds from now; negative for one that has expired.
        """
        return self._issue(name, names, expires_in, ExtendedKeyUsageOID.CLIENT_AUTH)

    def client_context(self) -> ssl.SSLContext:
        """A context of the standard library that trusts this authority alone, and verifies names."""
        return ssl.create_default_context(cadata=self.certificate_pem.decode("ascii"))

    def write(self, directory: str | os.PathLike[str], name: str = "ca") -> Path:
        """Write the authority's certificate as ``NAME.pem`` into ``directory``, which is made if need be."""
        path = Path(directory, f"{name}.pem")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.certificate_pem)
        return path

    def _issue(self, common_name: str, names: Sequence[str], expires_in: float, use: x509.ObjectIdentifier) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_distinguished(common_name), self._name, key.public_key(), expires_in)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        return Certificate(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, expires_in: float) -> x509.CertificateBuilder:
    end = datetime.now(timezone.utc) + timedelta(seconds=expires_in)
    # An hour back, for clocks that differ a little; more where the end itself is in the past.
    begin = min(end, datetime.now(timezone.utc)) - timedelta(hours=1)
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begin, end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _distinguished(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs_certificates, crl_sign=signs_certificates, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)
