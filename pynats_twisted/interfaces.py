"""The interfaces of this package for :mod:`zope.interface`.

They are apart from the classes that they describe, as the core of the package (``pynats_twisted.protocol``) does without zope.interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Interface, classImplements

from pynats_twisted.protocol import credentials

if TYPE_CHECKING:
    from pynats_twisted.protocol.servers import Server


class IAuthenticator(Interface):
    """What gives the credentials for each connection; the option ``authenticator`` takes one.

    Declaring the interface is a courtesy to the reader: the option takes any object with such a method.
    """

    def authenticate(nonce: bytes | None, server: Server) -> credentials.AuthParameters:  # noqa: N805 - interfaces have no self
        """What to send to this server.

        It is called at each connect, in the thread of the reactor: it must not block for long, and must not return an awaitable.

        :param nonce: what the server wants to have signed; None when it sent none.
        :param server: the :class:`~pynats_twisted.protocol.servers.Server` that the connection is to.
        :return: :class:`~pynats_twisted.protocol.credentials.AuthParameters`.
        :raises CredentialsError: there are no usable credentials. This attempt to connect has failed; the next one asks again.
        """


classImplements(credentials.NoCredentials, IAuthenticator)
classImplements(credentials.UserPassword, IAuthenticator)
classImplements(credentials.Token, IAuthenticator)
classImplements(credentials.NKeySeed, IAuthenticator)
classImplements(credentials.NKeySigner, IAuthenticator)
classImplements(credentials.Creds, IAuthenticator)
classImplements(credentials.UserJWT, IAuthenticator)
classImplements(credentials.ClientAuthenticator, IAuthenticator)
