"""Getting an object into a file, also in several attempts."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from twisted.internet.task import deferLater

from ..errors import InvalidArgumentError, ObjectDigestError, ObjectIncompleteError
from ..jetstream.deferred import deferred
from .get import TRIES, find_object, open_found, was_replaced

if TYPE_CHECKING:
    from .info import ObjectInfo
    from .store import ObjectStore

# Read, and hashed, in one turn of the reactor.
_PART = 256 * 1024


@deferred
async def get_file(store: ObjectStore, name: str, path: str | os.PathLike[str], *, resume: bool = True) -> ObjectInfo:
    """Write an object to a file: :meth:`~pynats_twisted.objectstore.store.ObjectStore.get_file`.

    Parts of what the object was before are removed at the end.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidArgumentError(f"path is a {type(path).__name__}, not a str or an os.PathLike")
    target = Path(path)
    if target.is_dir():
        raise InvalidArgumentError(f"path {str(target)!r} is a directory")
    for attempt in range(TRIES):
        is_last = attempt == TRIES - 1
        there, info = await find_object(store, name, fresh=attempt > 0)
        part = _part_of(target, info)
        is_resumed = resume and part.exists()
        try:
            await _fill(there, info, part, resume)
        except ObjectDigestError:
            # With the bytes of an earlier attempt it may be these that are wrong.
            part.unlink(missing_ok=True)
            if is_last or not is_resumed:
                raise
        except ObjectIncompleteError:
            if is_last or not await was_replaced(store, name, info):
                raise
        else:
            os.replace(part, target)
            _remove_old_parts(target)
            return info
    raise AssertionError("unreachable")


async def _fill(store: ObjectStore, info: ObjectInfo, part: Path, resume: bool) -> None:
    """Write what is missing of an object, and check all of it."""
    # With more bytes than the object it cannot be a part of it.
    goes_on = resume and part.exists() and part.stat().st_size <= info.size
    try:
        with part.open("r+b" if goes_on else "w+b") as file:
            digest = hashlib.sha256()
            have = await _take_in(store, file, digest)
            reader = await open_found(store, info, offset=have, digest=digest)
            try:
                async for piece in reader:
                    file.write(piece)
            finally:
                reader.stop()
    except BaseException:
        if not resume:
            part.unlink(missing_ok=True)
        raise


async def _take_in(store: ObjectStore, file: BinaryIO, digest: Any) -> int:
    """Hash what is there, and stand behind it. Returns how much it is."""
    have = 0
    while data := file.read(_PART):
        have += len(data)
        digest.update(data)
        await deferLater(store.js.client.reactor, 0)
    return have


# --- the names of parts --------------------------------------------------------------------------------------


def _part_of(target: Path, info: ObjectInfo) -> Path:
    """Where the part of an object is. Its name has a hash of what makes the bytes those of this object."""
    own = "\n".join((info.bucket, info.nuid, info.digest, str(info.size)))
    return target.with_name(f"{target.name}.{hashlib.sha256(own.encode()).hexdigest()[:16]}.part")


def _remove_old_parts(target: Path) -> None:
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{16}\.part")
    for path in target.parent.iterdir():
        if pattern.fullmatch(path.name):
            # It may be gone by now, or somebody else's.
            with suppress(OSError):
                path.unlink()
