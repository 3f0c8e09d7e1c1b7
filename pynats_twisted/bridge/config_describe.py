"""The types of the configuration in words, for messages: what a key may hold."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from pynats_twisted.bridge.config_types import DURATION_RULE, SIZE_RULE, Secret

_PLAIN = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
_KINDS = {"duration": DURATION_RULE, "size": SIZE_RULE, "path": "the path of a file"}


def split_annotated(hint: Any) -> tuple[Any, Meta | None]:
    """A type hint without its annotation, and the ``msgspec.Meta`` of the annotation if there is one."""
    if get_origin(hint) is not Annotated:
        return hint, None
    base, *extras = get_args(hint)
    return base, next((extra for extra in extras if isinstance(extra, Meta)), None)


def kind_of(meta: Meta | None) -> str:
    """Which of the value types of :mod:`~pynats_twisted.bridge.config_types` it is; an empty text for none."""
    return str((meta.extra or {}).get("kind", "")) if meta is not None else ""


def describe_type(hint: Any) -> str:
    """What may be written where *hint* is the type, in words."""
    base, meta = split_annotated(hint)
    kind = kind_of(meta)
    words = _KINDS[kind] if kind in _KINDS else _describe_base(base)
    bounds = _describe_bounds(meta, base, kind)
    return f"{words}, {bounds}" if bounds else words


def _describe_base(base: Any) -> str:
    origin, arguments = get_origin(base), get_args(base)
    if base in _PLAIN:
        return _PLAIN[base]
    if origin is Literal:
        return ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in arguments)
    if origin is Union or origin is types.UnionType:
        return ", or ".join(describe_type(member) for member in arguments if member is not type(None))
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return f"an array, each element: {describe_type(arguments[0])}"
    if origin is tuple:
        return f"an array of {len(arguments)}: {'; '.join(describe_type(argument) for argument in arguments)}"
    if origin is dict:
        return f"a table, each value: {describe_type(arguments[1])}"
    if isinstance(base, type) and issubclass(base, Secret):
        return base.rule()
    if isinstance(base, type) and issubclass(base, Struct):
        config = base.__struct_config__
        names = [config.tag_field] if config.tag_field else []
        names += [field.encode_name for field in msgspec.structs.fields(base)]
        return f"a table with keys of: {', '.join(names)}"
    return f"a {getattr(base, '__name__', base)}"


def _describe_bounds(meta: Meta | None, base: Any, kind: str) -> str:
    if meta is None:
        return ""
    words: list[str] = []
    if meta.gt is not None:
        words.append(f"more than {meta.gt}")
    # Nobody writes negative durations and sizes, so their lower bound of 0 needs no words.
    if meta.ge is not None and not (kind and meta.ge == 0):
        words.append(f"at least {meta.ge}")
    if meta.lt is not None:
        words.append(f"less than {meta.lt}")
    if meta.le is not None:
        words.append(f"at most {meta.le}")
    if meta.multiple_of is not None:
        words.append(f"a multiple of {meta.multiple_of}")
    unit = "characters" if base is str else "elements"
    if meta.min_length is not None:
        words.append("not empty" if meta.min_length == 1 else f"at least {meta.min_length} {unit}")
    if meta.max_length is not None:
        words.append(f"at most {meta.max_length} {unit}")
    if meta.pattern is not None:
        words.append(f"as the pattern {meta.pattern}")
    return ", ".join(words)
