"""A configuration as text: the effective one with secrets taken out, and the JSON Schema of what may be written."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

import msgspec

from pynats_twisted.bridge.config import AdminSection, BridgeConfig, BridgeSection, ListenSection, NatsSection, ServerSection
from pynats_twisted.bridge.config_describe import kind_of, split_annotated
from pynats_twisted.bridge.config_errors import redact_urls
from pynats_twisted.bridge.config_types import Secret, format_duration, format_size
from pynats_twisted.bridge.interfaces import IRouteFactory

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_REST_MARKUP = re.compile(r"``|:[a-z]+:`~?|`|\*(?=\S)|(?<=\S)\*")
_IVAR = re.compile(r"^\s*:ivar (\w+):((?:.|\n(?!\s*:))*)", re.MULTILINE)


def effective_config(config: BridgeConfig) -> dict[str, Any]:
    """The configuration with all defaults, as plain values; literal secrets and passwords in URLs are replaced."""
    document: dict[str, Any] = {"bridge": _plain_struct(config.bridge)}
    if config.admin is not None:
        document["admin"] = _plain_struct(config.admin)
    if config.server is not None:
        document["server"] = _plain_struct(config.server)
    for kind, sections in (("nats", config.nats), ("listen", config.listen), ("routes", config.routes)):
        document[kind] = {name: _plain_struct(section) for name, section in sections.items()}
    return document


def format_config(config: BridgeConfig) -> str:
    """:func:`effective_config` as TOML."""
    document = effective_config(config)
    lines: list[str] = []
    for name in ("bridge", "admin", "server"):
        if name in document:
            lines += _toml_table((name,), document[name])
    for kind in ("nats", "listen", "routes"):
        for name, table in document[kind].items():
            lines += _toml_table((kind, name), table)
    return "\n".join(lines).rstrip("\n") + "\n"


def json_schema(factories: Mapping[str, IRouteFactory]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration with the route types *factories*."""
    sections: list[type[msgspec.Struct]] = [BridgeSection, AdminSection, ServerSection, NatsSection, ListenSection]
    route_types: list[type[msgspec.Struct]] = [factory.config_type for factory in factories.values()]
    refs, definitions = msgspec.json.schema_components(
        [*sections, *route_types], schema_hook=_schema_of_custom_type, ref_template="#/$defs/{name}"
    )
    bridge, admin, server, nats, listen = refs[: len(sections)]
    for struct in _structs([*sections, *route_types]):
        if struct.__name__ in definitions:
            _describe(definitions[struct.__name__], struct)
    routes = []
    names = [ref["$ref"].rpartition("/")[2] for ref in refs[len(sections) :]]
    for type_name, name in zip(factories, names, strict=True):
        # Two route types may share a class, so each gets a copy which knows its own name.
        own = json.loads(json.dumps(definitions[name]))
        own["properties"]["type"]["const"] = type_name
        definitions[f"route-{type_name}"] = own
        routes.append({"$ref": f"#/$defs/route-{type_name}"})
    for name in set(names):
        del definitions[name]
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of nats-bridge",
        "type": "object",
        "properties": {
            "bridge": bridge,
            "admin": admin,
            "server": server,
            "nats": {"type": "object", "additionalProperties": nats},
            "listen": {"type": "object", "additionalProperties": listen},
            "routes": {"type": "object", "additionalProperties": {"oneOf": routes}},
        },
        "required": ["bridge"],
        "additionalProperties": False,
        "$defs": definitions,
    }
    _tidy(schema)
    return schema


def _plain_struct(struct: msgspec.Struct) -> dict[str, Any]:
    table: dict[str, Any] = {}
    config = struct.__struct_config__
    if config.tag_field is not None:
        table[config.tag_field] = config.tag
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value is not None:
            table[field.encode_name] = _plain(value, _kind(field.type))
    return table


def _plain(value: Any, kind: str = "") -> Any:
    if isinstance(value, msgspec.Struct):
        return _plain_struct(value)
    if isinstance(value, Secret):
        return value.describe()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if kind == "duration":
        return format_duration(value)
    if kind == "size":
        return format_size(value)
    return redact_urls(value) if isinstance(value, str) else value


def _kind(hint: Any) -> str:
    base, meta = split_annotated(hint)
    if get_origin(base) in (Union, types.UnionType):
        return next((kind for kind in map(_kind, get_args(base)) if kind), "")
    return kind_of(meta)


def _toml_table(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    header = ".".join(map(_toml_key, path))
    return [f"[{header}]", *(f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()), ""]


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        # A basic string of TOML has the escapes of JSON, and one more character that has to be escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return str(value)


def _schema_of_custom_type(custom: type) -> dict[str, Any]:
    if not issubclass(custom, Secret):
        raise TypeError(f"{custom!r} has no JSON Schema: a field of a configuration is a text, a number, a Secret, a Struct, …")

    def one_of(key: str) -> dict[str, Any]:
        return {"type": "object", "properties": {key: {"type": "string"}}, "required": [key], "additionalProperties": False}

    return {"description": custom.rule(), "anyOf": [{"type": "string"}, one_of("env"), one_of("file")]}


def _structs(roots: Iterable[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """*roots*, and every struct that is the type of a field in them, at any depth."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting: list[Any] = list(roots)
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            if hint not in found:
                found[hint] = None
                waiting.extend(field.type for field in msgspec.structs.fields(hint))
        else:
            waiting.extend(get_args(hint))
    return list(found)


def _describe(definition: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Put the docstring of a section where editors look: its first paragraph at the table, each ``:ivar`` at its key."""
    fields = {
        name: _plain_text(text) for base in reversed(struct.__mro__) for name, text in _IVAR.findall(base.__dict__.get("__doc__") or "")
    }
    summary = _plain_text((struct.__dict__.get("__doc__") or "").split("\n\n")[0])
    if summary:
        definition["description"] = summary
    for field in msgspec.structs.fields(struct):
        text = fields.get(field.name)
        if text and field.encode_name in definition["properties"]:
            own = definition["properties"][field.encode_name]
            own["description"] = f"{text} ({own['description']})" if "description" in own else text


def _tidy(node: Any) -> None:
    """Let durations and sizes be texts, and leave out ``null``, which TOML has not."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        choices.remove({"type": "null"})
        if node.get("default", "") is None:
            del node["default"]
        if len(choices) == 1:
            del node["anyOf"]
            node.update({**choices[0], **node})
    if node.pop("x-kind", None) is not None:
        node["type"] = [node["type"], "string"]
    for item in node.values():
        _tidy(item)


def _plain_text(text: str) -> str:
    return " ".join(_REST_MARKUP.sub("", text).split())
