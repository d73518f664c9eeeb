"""JSON Schemas that accept exactly what the conversion to Python does.

The schemas of msgspec and pydantic are meant as descriptions: they leave out restrictions of keys
and texts. But an answer is checked by its schema where the types are not available, and has to be
convertible later, so the schemas are made stricter here. Where that is impossible there is no
schema, and only the workflow itself can accept the answer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import Enum, Flag
from functools import cache
from typing import Any, Final

import msgspec

_INTEGER: Final = r"^(0|-?[1-9][0-9]*)$"
_NUMBER: Final = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_WITH_OFFSET: Final = r"([zZ]|[+-][0-9]{2}:[0-9]{2})$"
_WITHOUT_OFFSET: Final = r"^[^zZ+]*[T ][0-9:.,]*$"
_FINITE: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_BYTE_SIZE: Final = (
    r"^\s*([0-9]*\.?[0-9]+)\s*([bB]|[kKmMgGtTpPeE]i?[bB]|[kKmMgGtTpPeE]?i?bit|[kKmMgGtTpPeE])?\s*$"
)
_MOST_COMBINATIONS: Final = 8
"""All combinations are listed for flags of up to this many members."""


class NoSchema(Exception):
    """No schema describes exactly what is accepted."""


def exact_schema_of(annotation: Any) -> dict[str, Any]:
    """Return the schema of an annotation that msgspec converts.

    Raises:
        Exception: msgspec does not support the type, or no schema is exact.
    """
    types = msgspec.inspect.multi_type_info([annotation])
    own: Any = sys.modules["msgspec._json_schema"]
    components = own._collect_component_types(types)
    names = own._build_name_map(components)
    generator = _msgspec_generator()(names, None, "#/$defs/{name}")
    (schema,) = (generator.to_schema(info) for info in types)
    if components:
        schema["$defs"] = {
            names[cls]: generator.to_schema(info, False) for cls, info in components.items()
        }
    made: dict[str, Any] = schema
    return made


@cache
def _msgspec_generator() -> Any:
    """Return msgspec's schema generator, extended; imported only when a schema is needed."""
    import msgspec._json_schema as own
    import msgspec.inspect as mi

    class Generator(own._SchemaGenerator):
        def to_schema(self, info: Any, check_ref: bool = True) -> dict[str, Any]:
            schema: dict[str, Any] = super().to_schema(info, check_ref)
            while isinstance(info, mi.Metadata):
                info = info.type
            if "$ref" in schema:
                return schema
            if isinstance(info, mi.DateTimeType | mi.TimeType):
                _add_moment(schema, info)
            elif isinstance(info, mi.DictType):
                if names := self._key_schema(info.key_type):
                    schema["propertyNames"] = names
            elif isinstance(info, mi.EnumType):
                _add_members(schema, info.cls)
            elif isinstance(info, mi.RawType):
                raise NoSchema
            return schema

        def _key_schema(self, info: Any) -> dict[str, Any]:
            while isinstance(info, mi.Metadata):
                info = info.type
            match info:
                case mi.IntType():
                    return {"pattern": _INTEGER}
                case mi.FloatType():
                    return {"pattern": _NUMBER}
                case mi.BoolType():
                    raise NoSchema  # msgspec does not convert such keys
                case mi.UnionType():
                    return {"anyOf": [self._key_schema(one) for one in info.types]}
                case mi.EnumType():
                    return {"enum": [str(member.value) for member in info.cls]}
                case mi.LiteralType():
                    return {"enum": [str(value) for value in info.values]}
                case _:
                    schema = self.to_schema(info)
                    return {name: schema[name] for name in schema if name != "type"}

    return Generator


def _add_moment(schema: dict[str, Any], info: Any) -> None:
    schema["format"] = "time" if isinstance(info, msgspec.inspect.TimeType) else "date-time"
    if info.tz is not None:
        schema["pattern"] = _WITH_OFFSET if info.tz else _WITHOUT_OFFSET


def _add_members(schema: dict[str, Any], cls: type[Enum]) -> None:
    values = [member.value for member in cls]
    if not all(type(value) in (int, str) for value in values):
        raise NoSchema


def flag_schema(cls: type[Flag]) -> dict[str, Any]:
    """Return the schema of a Flag: the numbers of its members and their combinations.

    Raises:
        NoSchema: It has too many members.
    """
    bits = [member.value for member in cls]
    mask = 0
    for bit in bits:
        mask |= bit
    if mask & (mask + 1) == 0:
        numbers: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": mask}
    elif len(bits) <= _MOST_COMBINATIONS:
        combinations = {0}
        for bit in bits:
            combinations |= {bit | other for other in combinations}
        numbers = {"enum": sorted(combinations)}
    else:
        raise NoSchema
    names = ", ".join(f"{member.value} {member.name}" for member in cls)
    return {"title": cls.__name__, "description": f"A sum of: {names}", **numbers}


# ----------------------------------------------------------------------------------------- pydantic


def exact_pydantic_schema(adapter: Any) -> dict[str, Any]:
    """Return the schema of what a pydantic `TypeAdapter` accepts.

    Raises:
        Exception: pydantic has no schema, or no schema is exact.
    """
    schema: dict[str, Any] = _tightened(adapter.json_schema(schema_generator=_pydantic_generator()))
    return schema


def _tightened(node: Any) -> Any:
    """Correct the schemas that types of pydantic declare for themselves."""
    if isinstance(node, list):
        return [_tightened(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") in ("file-path", "directory-path", "password"):
        raise NoSchema  # a path that must exist on another machine; a secret, which is not saved
    if str(node.get("pattern", "")).endswith(r"\s*(\w+)?"):  # ByteSize
        node = {**node, "pattern": _BYTE_SIZE}
    return {
        name: item if name in ("default", "examples", "enum", "const") else _tightened(item)
        for name, item in node.items()
    }


@cache
def _pydantic_generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def complex_schema(self, schema: Any) -> dict[str, Any]:
            return {"type": "string", "format": "complex"}

        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            made: Any = super().decimal_schema(schema)
            for option in made.get("anyOf", [made]):
                if option.get("type") == "string":
                    option["format"] = "decimal"
                    if not schema.get("allow_inf_nan"):
                        option.setdefault("pattern", _FINITE)
            found: dict[str, Any] = made
            return found

        def datetime_schema(self, schema: Any) -> dict[str, Any]:
            return _moment(schema, "date-time")

        def time_schema(self, schema: Any) -> dict[str, Any]:
            return _moment(schema, "time")

        def date_schema(self, schema: Any) -> dict[str, Any]:
            return _moment(schema, "date")

        def url_schema(self, schema: Any) -> dict[str, Any]:
            return _with_schemes(dict(super().url_schema(schema)), schema)

        def multi_host_url_schema(self, schema: Any) -> dict[str, Any]:
            return _with_schemes(dict(super().multi_host_url_schema(schema)), schema)

        def json_schema(self, schema: Any) -> dict[str, Any]:
            if "schema" in schema and schema["schema"].get("type") != "any":
                raise NoSchema  # JSON inside a text: a schema could check only that it is a text
            return {"type": "string", "format": "json-string"}

        def is_subclass_schema(self, schema: Any) -> dict[str, Any]:
            raise NoSchema

        def enum_schema(self, schema: Any) -> dict[str, Any]:
            if issubclass(schema["cls"], Flag):
                return flag_schema(schema["cls"])
            values = [member.value for member in schema["members"]]
            if not all(type(value) in (int, str, bool, float, type(None)) for value in values):
                raise NoSchema
            return dict(super().enum_schema(schema))

        def dict_schema(self, schema: Any) -> dict[str, Any]:
            made = dict(super().dict_schema(schema))
            keys = schema.get("keys_schema", {})
            if names := _key_names(keys):
                made["propertyNames"] = names
            elif keys.get("type", "any") not in ("any", "str") and "propertyNames" not in made:
                inner = dict(self.generate_inner(keys))
                if "$ref" not in inner:
                    inner.pop("type", None)
                    made["propertyNames"] = inner
            if by_pattern := made.pop("patternProperties", None):
                # A pattern alone does not restrict keys that do not match it.
                ((pattern, made["additionalProperties"]),) = by_pattern.items()
                made["propertyNames"] = {**made.get("propertyNames", {}), "pattern": pattern}
            return made

    return Generator


_KEYS: Final[Mapping[str, dict[str, Any]]] = {
    "int": {"pattern": _INTEGER},
    "float": {"pattern": _NUMBER},
    "bool": {"enum": ["true", "false"]},
}


def _key_names(keys: Mapping[str, Any]) -> dict[str, Any] | None:
    return _KEYS.get(keys.get("type", ""))


def _moment(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    bounds = ("le", "ge", "lt", "gt", "now_op")
    if any(bound in schema for bound in bounds):
        raise NoSchema  # whether it fits depends on the current time
    made = {"type": "string", "format": name}
    zone = schema.get("tz_constraint")
    if zone in ("aware", "naive"):
        made["pattern"] = _WITH_OFFSET if zone == "aware" else _WITHOUT_OFFSET
    elif zone is not None:
        raise NoSchema
    return made


def _with_schemes(made: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    schemes = "|".join(map(re.escape, schema.get("allowed_schemes") or ()))
    if schemes or schema.get("host_required"):
        host = "//[^/?#]" if schema.get("host_required") else ""
        made["pattern"] = f"^({schemes or '[A-Za-z][A-Za-z0-9+.-]*'}):{host}"
    return made
