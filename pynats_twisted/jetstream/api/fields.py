"""How a class of the API and a JSON object become each other: one table of fields for each class, made when it is first used.

A class lists its fields as a dataclass. What a field is on the wire follows from its annotation, or from its :func:`wire`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

from ...errors import ConfigurationError, JetStreamConfigError
from .enums import UnknownValue, WireEnum
from .values import MAX_INT64, format_time, from_nanoseconds, parse_time, to_nanoseconds

_T = TypeVar("_T", bound="ApiObject")


class MismatchError(ValueError):
    """A value in an answer is of the wrong type.

    :ivar path: where it is, innermost name first.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.path: list[str] = []


class Codec(NamedTuple):
    """The two directions of a kind of value, and what a constructor makes of it.

    ``load`` raises ValueError or TypeError with the rule; ``dump`` too, or an error that knows its field.
    """

    load: Callable[[Any], Any]
    dump: Callable[[Any], Any]
    normal: Callable[[Any], Any] | None = None


class FieldSpec(NamedTuple):
    """A field of a class. ``name`` is ours, ``key`` the wire's."""

    name: str
    key: str
    codec: Codec
    default: Any
    always: bool
    readonly: bool


class Table(NamedTuple):
    """The fields of a class in order, by key, and those that its constructor has to normalise."""

    specs: tuple[FieldSpec, ...]
    by_key: dict[str, FieldSpec]
    normalised: tuple[FieldSpec, ...]


def wire(codec: Codec, *, key: str = "", always: bool = False, readonly: bool = False) -> dict[str, Any]:
    """What a field is on the wire, as the ``metadata`` of a dataclass field.

    :param key: its name on the wire, where that differs.
    :param always: send it even when it is at its default, because the server's own default is another, or could be.
    :param readonly: never send it.
    """
    return {"codec": codec, "key": key, "always": always, "readonly": readonly}


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ApiObject:
    """The base of all that is a JSON object in the JetStream API.

    Objects are not changed, but replaced: ``dataclasses.replace(config, max_age=60.0)``.

    :ivar unknown: what the server sent in this object and this package does not know. It is never sent, and does not count when
        objects are compared.
    """

    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)
    kinds: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for spec in table_of(type(self)).normalised:
            value = getattr(self, spec.name)
            if value is None:
                continue
            assert spec.codec.normal is not None
            try:
                normal = spec.codec.normal(value)
            except (TypeError, ValueError) as error:
                raise JetStreamConfigError(spec.name, value, str(error)) from None
            if normal is not value:
                object.__setattr__(self, spec.name, normal)

    def __repr__(self) -> str:
        shown = [f"{spec.name}={value!r}" for spec in table_of(type(self)).specs if (value := getattr(self, spec.name)) != spec.default]
        if self.unknown:
            shown.append(f"unknown={self.unknown!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def validate(self) -> None:
        """Check what can be known to be wrong before it is sent. Encoding does this too.

        :raises JetStreamConfigError: it breaks a rule; the error names the field, its value and the rule.
        """
        to_wire(self)

    def check_rules(self) -> None:
        """The rules of this class, for fields whose types are right. Called by :meth:`validate`."""


# --- plain values --------------------------------------------------------------------------------------------


def _load_string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a string")
    return value


def _load_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return value


def _load_integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("must be an integer")
    return value


def _integer(lowest: int, highest: int) -> Codec:
    def dump(value: Any) -> int:
        if not lowest <= _load_integer(value) <= highest:
            raise ValueError(f"must be between {lowest} and {highest}")
        return int(value)

    return Codec(_load_integer, dump)


STRING = Codec(_load_string, _load_string)
BOOLEAN = Codec(_load_boolean, _load_boolean)
INTEGER = _integer(-MAX_INT64 - 1, MAX_INT64)
INTEGER_32 = _integer(-(2**31), 2**31 - 1)
UNSIGNED = _integer(0, 2**64 - 1)


def _dump_seconds(value: Any) -> int:
    nanoseconds = to_nanoseconds(value)
    if nanoseconds < 0:
        raise ValueError("must not be negative")
    return nanoseconds


def _load_bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_load_string(value), validate=True)
    except binascii.Error as error:
        raise ValueError(f"must be base64: {error}") from None


def _load_age(value: Any) -> float | None:
    nanoseconds = _load_integer(value)
    return None if nanoseconds < 0 else from_nanoseconds(nanoseconds)


SECONDS = Codec(lambda value: from_nanoseconds(_load_integer(value)), _dump_seconds)
#: Seconds since something; the server says -1 for never.
AGE = Codec(_load_age, _dump_seconds)
TIME = Codec(lambda value: parse_time(_load_string(value)), format_time)
BYTES = Codec(_load_bytes, lambda value: base64.b64encode(value).decode("ascii"))


def choice(kind: type[WireEnum]) -> Codec:
    """One of the members of an enum, which may be given as their text. What a newer server says beyond them is kept."""

    def load(value: Any) -> WireEnum | UnknownValue:
        try:
            return kind(_load_string(value))
        except ValueError:
            return UnknownValue(value)

    def normal(value: Any) -> WireEnum | UnknownValue:
        if isinstance(value, (kind, UnknownValue)):
            return value
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(repr(member.value) for member in kind)}") from None

    return Codec(load, str, normal)


# --- values made of others -----------------------------------------------------------------------------------


def listed(codec: Codec) -> Codec:
    """A list; a tuple at our surface."""

    def load(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError("must be a list")
        return tuple([_inside(str(index), codec.load, item) for index, item in enumerate(value)])

    def dump(value: Any) -> list[Any]:
        return [_dumped(str(index), codec.dump, item) for index, item in enumerate(value)]

    def normal(value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise TypeError("must be a list or tuple")
        return value if type(value) is tuple else tuple(value)

    return Codec(load, dump, normal)


def mapped(codec: Codec) -> Codec:
    """An object with any keys; a dict at our surface."""

    def load(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise TypeError("must be an object")
        return {key: _inside(key, codec.load, item) for key, item in value.items()}

    def dump(value: Any) -> dict[str, Any]:
        return {_dumped(repr(key), _load_string, key): _dumped(str(key), codec.dump, item) for key, item in value.items()}

    def normal(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError("must be a mapping")
        return dict(value)

    return Codec(load, dump, normal)


def nested(kind: type[ApiObject]) -> Codec:
    """An object of another class."""

    def dump(value: Any) -> dict[str, Any]:
        if not isinstance(value, kind):
            raise TypeError(f"must be a {kind.__name__}")
        return to_wire(value)

    return Codec(lambda value: from_wire(kind, value), dump)


def _inside(name: str, load: Callable[[Any], Any], value: Any) -> Any:
    try:
        return load(value)
    except MismatchError as error:
        error.path.append(name)
        raise
    except (TypeError, ValueError) as error:
        mismatch = MismatchError(str(error))
        mismatch.path.append(name)
        raise mismatch from None


def _dumped(name: str, dump: Callable[[Any], Any], value: Any) -> Any:
    try:
        return dump(value)
    except JetStreamConfigError as error:
        raise JetStreamConfigError(f"{name}.{error.field}", error.value, error.rule) from None
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        raise JetStreamConfigError(name, value, str(error)) from None


# --- whole objects -------------------------------------------------------------------------------------------

_BY_ANNOTATION: dict[str, Codec] = {
    "str": STRING,
    "bool": BOOLEAN,
    "int": INTEGER,
    "Sequence[str]": listed(STRING),
    "Mapping[str, str]": mapped(STRING),
}
_TABLES: dict[type, Table] = {}


def table_of(kind: type[ApiObject]) -> Table:
    """The fields of a class."""
    table = _TABLES.get(kind)
    if table is None:
        specs = tuple(_spec(one) for one in dataclasses.fields(kind) if one.name != "unknown")
        normalised = tuple(spec for spec in specs if spec.codec.normal is not None)
        table = _TABLES[kind] = Table(specs, {spec.key: spec for spec in specs}, normalised)
    return table


def _spec(one: dataclasses.Field[Any]) -> FieldSpec:
    codec = one.metadata.get("codec") or _BY_ANNOTATION[str(one.type)]
    default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
    key = one.metadata.get("key") or one.name
    return FieldSpec(one.name, key, codec, default, one.metadata.get("always", False), one.metadata.get("readonly", False))


def to_wire(value: ApiObject) -> dict[str, Any]:
    """An object as JSON has it: what is at its default, only readable or unknown is left out.

    :raises JetStreamConfigError: a value breaks a rule.
    """
    found: dict[str, Any] = {}
    for spec in table_of(type(value)).specs:
        item = getattr(value, spec.name)
        if spec.readonly or item is None or (item == spec.default and not spec.always):
            continue
        found[spec.key] = _dumped(spec.name, spec.codec.dump, item)
    value.check_rules()
    return found


def from_wire(kind: type[_T], raw: Any) -> _T:
    """Read an object. ``null`` stands for the default, and so does a missing key.

    :raises MismatchError: it is not an object, or a known key has a value of the wrong type.
    """
    if not isinstance(raw, dict):
        raise MismatchError("must be an object")
    by_key = table_of(kind).by_key
    values: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for key, value in raw.items():
        spec = by_key.get(key)
        if spec is None:
            unknown[key] = value
        elif value is not None:
            values[spec.name] = _inside(key, spec.codec.load, value)
    if unknown:
        values["unknown"] = unknown
    try:
        return kind(**values)
    except TypeError:
        missing = [spec.key for spec in table_of(kind).specs if spec.default is dataclasses.MISSING and spec.name not in values]
        raise MismatchError(f"must have {', '.join(missing)}") from None
