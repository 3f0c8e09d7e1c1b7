"""From the plain values of a TOML document to typed sections, with everything that is wrong found in one go.

``msgspec.convert`` stops at the first error; people mend a configuration faster when they see all of them. So the walk through
tables and arrays is ours, and msgspec checks the single values.
"""

from __future__ import annotations

import math
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from pynats_twisted.bridge.config_describe import describe_type, kind_of, split_annotated
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found, describe_kind, near_miss
from pynats_twisted.bridge.config_lines import Path
from pynats_twisted.bridge.config_types import DURATION_RULE, SIZE_RULE, Secret, parse_duration, parse_size

StructT = TypeVar("StructT", bound=Struct)

_TEXT_PARSERS: Mapping[str, tuple[Callable[[str], float | int], str]] = {
    "duration": (parse_duration, DURATION_RULE),
    "size": (parse_size, SIZE_RULE),
}


class RawProblem(NamedTuple):
    """A problem whose place is a path; the line is found later."""

    path: Path
    found: str
    allowed: str
    suggestion: str = ""


def convert_section(table: object, struct: type[StructT], path: Path, problems: list[RawProblem], directory: str = "") -> StructT | None:
    """The section *struct* made of *table*, or None when anything in it is wrong.

    :param path: where the table stands.
    :param problems: gets what is wrong, all of it.
    :param directory: where relative paths start.
    """
    return _Converter(problems, directory).struct(table, struct, path)


class _Converter:
    def __init__(self, problems: list[RawProblem], directory: str) -> None:
        self._problems = problems
        self._directory = directory

    def _problem(self, path: Path, found: str, allowed: str, suggestion: str = "") -> None:
        self._problems.append(RawProblem(path, found, allowed, suggestion))

    def struct(self, table: object, struct: type[StructT], path: Path) -> StructT | None:
        if not isinstance(table, dict):
            self._problem(path, describe_kind(table), describe_type(struct))
            return None
        before = len(self._problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        tag_field = struct.__struct_config__.tag_field
        known = [*fields, tag_field] if tag_field is not None else list(fields)
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key in fields:
                values[fields[key].name] = self.value(value, fields[key].type, (*path, key))
            elif key != tag_field:
                close = near_miss(key, (name for name in known if name not in table))
                self._problem((*path, key), "an unknown key", ", ".join(sorted(known)), close)
        for key, field in fields.items():
            if field.required and key not in table:
                self._problem((*path, key), "nothing, but the key is needed", describe_type(field.type))
        if len(self._problems) > before:
            return None
        return self._make(struct, values, path)

    def _make(self, struct: type[StructT], values: dict[str, Any], path: Path) -> StructT | None:
        try:
            made = struct(**values)
        except ValueError as error:
            self._problem(path, "values that do not fit", str(error))
            return None
        found: Sequence[FieldProblem] = list(getattr(made, "find_problems", tuple)())
        for problem in found:
            self._problem(path + key_path(problem.key), problem.found, problem.allowed, problem.suggestion)
        return None if found else made

    def value(self, value: object, hint: Any, path: Path) -> Any:
        base, meta = split_annotated(hint)
        origin = get_origin(base)
        if origin is Union or origin is types.UnionType:
            return self._union(value, base, path)
        if isinstance(base, type) and issubclass(base, Secret):
            return self._secret(value, base, path)
        if isinstance(base, type) and issubclass(base, Struct):
            return self.struct(value, base, path)
        if origin in (list, tuple, dict) and self._has_length(value, hint, meta, path):
            return self._container(value, base, origin, path)
        if origin in (list, tuple, dict):
            return None
        return self._scalar(value, hint, kind_of(meta), path)

    def _secret(self, value: object, secret: type[Secret], path: Path) -> Secret | None:
        try:
            return secret.from_config(value, self._directory)
        except ValueError as error:
            self._problem(path, describe_kind(value), str(error))
            return None

    def _union(self, value: object, union: Any, path: Path) -> Any:
        members = [member for member in get_args(union) if member is not type(None)]
        if len(members) == 1:
            return self.value(value, members[0], path)
        tagged = [member for member in members if _tag_field(member) is not None]
        if tagged and isinstance(value, dict):
            return self._tagged(value, tagged, path)
        attempts: list[list[RawProblem]] = []
        for member in members:
            problems: list[RawProblem] = []
            converted = _Converter(problems, self._directory).value(value, member, path)
            if not problems:
                return converted
            attempts.append(problems)
        # What is wrong inside says more than "none of these": it means that the kind was right.
        inner = [problems for problems in attempts if any(problem.path != path for problem in problems)]
        if len(inner) == 1:
            self._problems.extend(inner[0])
        else:
            is_secret = any(isinstance(member, type) and issubclass(member, Secret) for member in members)
            self._problem(path, describe_kind(value) if is_secret else describe_found(value), describe_type(union))
        return None

    def _tagged(self, table: dict[str, object], members: list[Any], path: Path) -> Any:
        tag_field = _tag_field(members[0]) or ""
        by_tag = {str(member.__struct_config__.tag): member for member in members}
        tag = table.get(tag_field)
        if tag in by_tag:
            return self.struct(table, by_tag[str(tag)], path)
        found = describe_found(tag) if tag_field in table else "nothing, but the key is needed"
        allowed = ", ".join(f'"{name}"' for name in by_tag)
        self._problem((*path, tag_field), found, allowed, _quoted(near_miss(tag, by_tag)))
        return None

    def _has_length(self, value: object, hint: Any, meta: Meta | None, path: Path) -> bool:
        base, _ = split_annotated(hint)
        expected = dict if get_origin(base) is dict else list
        if not isinstance(value, expected):
            self._problem(path, describe_found(value), describe_type(hint))
            return False
        low = meta.min_length if meta is not None else None
        high = meta.max_length if meta is not None else None
        if (low is not None and len(value) < low) or (high is not None and len(value) > high):
            self._problem(path, describe_found(value), describe_type(hint))
            return False
        return True

    def _container(self, value: Any, base: Any, origin: Any, path: Path) -> Any:
        arguments = get_args(base)
        if origin is dict:
            key_type, value_type = arguments
            keys = [self.value(key, key_type, (*path, key)) for key in value]
            return dict(zip(keys, [self.value(item, value_type, (*path, key)) for key, item in value.items()], strict=True))
        if origin is tuple and arguments[-1] is not Ellipsis:
            if len(value) != len(arguments):
                self._problem(path, describe_found(value), describe_type(base))
                return None
            return tuple(self.value(item, arguments[index], (*path, index)) for index, item in enumerate(value))
        items = [self.value(item, arguments[0], (*path, index)) for index, item in enumerate(value)]
        return tuple(items) if origin is tuple else items

    def _scalar(self, found: object, hint: Any, kind: str, path: Path) -> Any:
        value = found
        if kind in _TEXT_PARSERS and isinstance(found, str):
            parse, rule = _TEXT_PARSERS[kind]
            try:
                value = parse(found)
            except ValueError:
                self._problem(path, describe_found(found), rule)
                return None
        if isinstance(value, float) and not math.isfinite(value):
            self._problem(path, describe_found(found), describe_type(hint))
            return None
        try:
            converted = msgspec.convert(value, hint)
        except msgspec.ValidationError:
            self._problem(path, describe_found(found), describe_type(hint), _quoted(near_miss(value, _literals(hint))))
            return None
        return os.path.abspath(os.path.join(self._directory, converted)) if kind == "path" else converted


def key_path(key: str) -> Path:
    """The path of a dotted key; parts that are numbers are indexes of arrays."""
    return tuple(int(part) if part.isdigit() else part for part in key.split(".")) if key else ()


def _tag_field(member: Any) -> str | None:
    if isinstance(member, type) and issubclass(member, Struct):
        return member.__struct_config__.tag_field
    return None


def _literals(hint: Any) -> list[str]:
    base, _ = split_annotated(hint)
    return [str(value) for value in get_args(base)] if get_origin(base) is Literal else []


def _quoted(text: str) -> str:
    return f'"{text}"' if text else ""
