"""The error object of an answer (ADR-7), and the exception that it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import JetStreamApiError, JetStreamDecodeError
from .fields import ApiObject


def _classes(kind: type[JetStreamApiError]) -> Iterator[type[JetStreamApiError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _classes(child)


_BY_CODE = {code: kind for kind in _classes(JetStreamApiError) for code in kind.err_codes}


def api_error(error_object: Mapping[str, Any]) -> JetStreamApiError:
    """The exception for the ``error`` of an answer, of the class that has its ``err_code``; not raised.

    An ``err_code`` that has no class gives a plain :class:`~pynats_twisted.errors.JetStreamApiError`.

    :raises JetStreamDecodeError: it is not an object with a ``code``.
    """
    if not isinstance(error_object, Mapping):
        raise JetStreamDecodeError(f"the error of an answer is a JSON {type(error_object).__name__}, not an object")
    code, err_code, description = (error_object.get(key) for key in ("code", "err_code", "description"))
    if type(code) is not int or type(err_code or 0) is not int or type(description or "") is not str:
        raise JetStreamDecodeError("the error of an answer has a code, an err_code or a description of the wrong type")
    return _BY_CODE.get(err_code or 0, JetStreamApiError)(code, err_code or 0, description or "")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ErrorObject(ApiObject):
    """An error that is a part of an answer which is none itself, for example of a mirror that does not work."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    def exception(self) -> JetStreamApiError:
        """The same as an exception."""
        return _BY_CODE.get(self.err_code, JetStreamApiError)(self.code, self.err_code, self.description)
