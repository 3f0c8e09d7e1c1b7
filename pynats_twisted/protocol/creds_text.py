"""The text that credentials are kept in: reading it from files, and finding the JWT and the seed in it.

A credentials file has a JWT and a seed, each between a line ``-----BEGIN NATS USER JWT-----`` (or ``-----BEGIN USER NKEY
SEED-----``) and a line ``------END ...``. Files that hold just one of the two may have these lines or not.

Text that may hold a seed is kept in bytearrays, so that it can be wiped as soon as it was used. Errors name the option and the
path, never a piece of the text.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from pynats_twisted.errors import CredentialsError
from pynats_twisted.protocol import nkeys

MAX_CREDENTIALS_SIZE = 64 * 1024
"""The most bytes that a file of credentials may have."""

_FENCE = re.compile(rb"^(?:\xef\xbb\xbf)?[ \t]*-{3,} ?(BEGIN|END) ([A-Z ]{1,40}?) ?-{3,}[ \t]*\r?$", re.MULTILINE)
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_WHITE_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class GivenText:
    """Text that was given as the value of an option."""

    __slots__ = ("_option", "_value")

    def __init__(self, option: str, value: str | bytes) -> None:
        if not isinstance(value, (str, bytes, bytearray)):
            raise CredentialsError(f"{option}: str or bytes are needed, not {type(value).__name__}")
        self._option = option
        self._value = value

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return self._option

    @contextmanager
    def opened(self) -> Iterator[bytearray]:
        """A copy of the text for the length of a ``with`` block; it is wiped after it."""
        # "replace" because an error of encoding would carry the text.
        text = bytearray(self._value, "utf-8", "replace") if isinstance(self._value, str) else bytearray(self._value)
        try:
            yield text
        finally:
            nkeys.wipe(text)

    def warnings(self) -> list[str]:
        """Nothing."""
        return []


class FileText:
    """Text that is in a file, which is read each time."""

    __slots__ = ("_known", "_option", "_path", "_warnings")

    def __init__(self, option: str, path: str | os.PathLike[str]) -> None:
        self._option = option
        self._path = _checked_path(option, path)
        self._known: set[str] = set()
        self._warnings: list[str] = []

    def __repr__(self) -> str:
        return repr(self._path)

    def __str__(self) -> str:
        return f"{self._option} {self._path!r}"

    @contextmanager
    def opened(self) -> Iterator[bytearray]:
        """The content of the file for the length of a ``with`` block; it is wiped after it.

        :raises CredentialsError: the file cannot be read, or has more than :data:`MAX_CREDENTIALS_SIZE` bytes.
        """
        buffer = bytearray(MAX_CREDENTIALS_SIZE + 1)
        try:
            size = self._read_into(buffer)
            if size == len(buffer):
                raise CredentialsError(f"{self}: more than {MAX_CREDENTIALS_SIZE} bytes cannot be credentials")
            text = buffer[:size]
        finally:
            nkeys.wipe(buffer)
        try:
            yield text
        finally:
            nkeys.wipe(text)

    def _read_into(self, buffer: bytearray) -> int:
        size = 0
        try:
            # Unbuffered, as a buffer of the file object could not be wiped.
            with open(self._path, "rb", buffering=0) as file, memoryview(buffer) as view:
                self._check_permissions(os.fstat(file.fileno()))
                while size < len(buffer):
                    count = file.readinto(view[size:])
                    if not count:
                        break
                    size += count
        except OSError as error:
            raise CredentialsError(f"{self}: cannot be read: {error.strerror or type(error).__name__}") from error
        return size

    def _check_permissions(self, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if os.name != "posix" or not stat.S_ISREG(status.st_mode) or not mode & 0o077:
            return
        warning = f"{self} is open to others than its owner (mode {mode:04o}); a file with a secret should have mode 0600"
        if warning not in self._known:
            self._known.add(warning)
            self._warnings.append(warning)

    def warnings(self) -> list[str]:
        """The warnings that were not given yet."""
        new, self._warnings = self._warnings, []
        return new


def _checked_path(option: str, value: str | os.PathLike[str]) -> str:
    """The path as text. What is in truth the secret itself is refused, as paths get into messages."""
    path: object = None
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
    if not isinstance(path, str):
        raise CredentialsError(f"{option}: a path (str or os.PathLike of str) is needed, not {type(value).__name__}")
    if not path:
        raise CredentialsError(f"{option}: the path is empty")
    if _is_content(path):
        raise CredentialsError(f"{option}: the value is not the path of a file but what should be in the file; give the path")
    return path


def _is_content(path: str) -> bool:
    text = path.strip()
    if "\n" in path or "\0" in path or "-----BEGIN" in path or (text.startswith("eyJ") and _JWT.fullmatch(text)):
        return True
    try:
        nkeys.wipe(nkeys.decode_seed(text)[1])
    except CredentialsError:
        return False
    return True


def find_jwt(source: str, text: bytearray, *, chained: bool = False) -> str:
    """The JWT in a text.

    :param source: what the text is, for messages.
    :param chained: the text has a JWT and a seed, so that the lines around the JWT have to be there.
    :raises CredentialsError: there is none, or it does not look like one.
    """
    start, end = _find(source, text, b"JWT", "BEGIN NATS USER JWT", chained)
    # latin-1 because it cannot fail: an error of decoding would carry the text.
    jwt = text[start:end].decode("latin-1")
    if not _JWT.fullmatch(jwt):
        raise CredentialsError(f"{source}: the JWT is malformed: it has to be three parts in base64url, with dots between them")
    return jwt


def find_seed(source: str, text: bytearray, *, chained: bool = False) -> bytearray:
    """The user seed in a text, checked, for the caller to wipe; the parameters are as for :func:`find_jwt`.

    :raises CredentialsError: there is none, it is malformed, or it is not the seed of a user.
    """
    start, end = _find(source, text, b"SEED", "BEGIN USER NKEY SEED", chained)
    seed = text[start:end]
    try:
        kind, raw = nkeys.decode_seed(seed)
    except CredentialsError as error:
        nkeys.wipe(seed)
        raise CredentialsError(f"{source}: {error}") from None
    nkeys.wipe(raw)
    if kind != "user":
        nkeys.wipe(seed)
        raise CredentialsError(f"{source}: the NKey seed is one of kind {kind!r}; a client connects with one of kind 'user' (SU...)")
    return seed


def _find(source: str, text: bytearray, label: bytes, line: str, chained: bool) -> tuple[int, int]:
    """Where the content of the first block with this word in its label starts and ends; of the whole text when it has no blocks."""
    begin: re.Match[bytes] | None = None
    fences = 0
    for fence in _FENCE.finditer(text):
        fences += 1
        if begin is not None:
            return _strip(text, begin.end(), fence.start())
        if fence[1] == b"BEGIN" and label in fence[2].split():
            begin = fence
    if begin is not None:
        raise CredentialsError(f"{source}: the text ends before the line '------END ...' that belongs to '-----{line}-----'")
    if fences or chained:
        raise CredentialsError(f"{source}: there is no line '-----{line}-----'")
    start, end = _strip(text, len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0, len(text))
    if start == end:
        raise CredentialsError(f"{source}: the text is empty")
    return start, end


def _strip(text: bytearray, start: int, end: int) -> tuple[int, int]:
    """The bounds without white space at either side."""
    while start < end and text[start] in _WHITE_SPACE:
        start += 1
    while start < end and text[end - 1] in _WHITE_SPACE:
        end -= 1
    return start, end
