"""Fields of pydantic models that only their own serializers can write."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

import msgspec

from supersteps.checkpoint.codec.trouble import Trouble
from supersteps.typing import display_name


class FieldForm:
    """How one field of a model is converted to JSON and back.

    Loading uses the schema of the field alone, with its validators, so that the hooks of the model
    are not run.
    """

    def __init__(self, cls: Any, name: str) -> None:
        self._cls = cls
        self._name = name

    def dump(self, model: Any, value: Any) -> Any:
        """Return the serialized value of the field, None if it would lose something."""
        if self._schema is None:
            return None
        try:
            data = self._dumped(model)
            made = self._validator.validate_json(msgspec.json.encode(data))
            return data if is_alike(value, made) else None
        except Exception:  # serializers and validators of users may raise anything
            return None

    def _dumped(self, model: Any) -> Any:
        """Dump the field as a part of its model: a serializer may be a method of the model."""
        written = model.__pydantic_serializer__.to_json(
            model, include={self._name}, by_alias=False, round_trip=True, warnings=False
        )
        data = msgspec.json.decode(written)
        return data if self._cls.__pydantic_root_model__ else data[self._name]

    def load(self, data: Any) -> Any:
        """Return the value that was passed to `dump`.

        Raises:
            Trouble: The field's validator refuses it.
        """
        where = f"the field {self._name!r} of {display_name(self._cls)}"
        if self._schema is None:
            raise Trouble(f"{where} can no longer be read by its own validator")
        try:
            return self._validator.validate_json(msgspec.json.encode(data))
        except Exception as error:  # likewise
            raise Trouble(f"{where} refuses its saved value: {error}") from error

    @cached_property
    def _validator(self) -> Any:
        return sys.modules["pydantic_core"].SchemaValidator(self._schema)

    @cached_property
    def _schema(self) -> Any:
        """The field's core schema; None if it has none, or would import what the data names."""
        found = _field_schema(self._cls.__pydantic_core_schema__, self._name)
        return None if _imports(found) else found


def _imports(schema: Any) -> bool:
    """Return whether a schema imports what text names, as pydantic's `ImportString` does."""
    if isinstance(schema, dict):
        return any(map(_imports, schema.values()))
    if isinstance(schema, list | tuple):
        return any(map(_imports, schema))
    names = (getattr(schema, "__name__", ""), getattr(schema, "__qualname__", ""))
    return "import_string" in names[0] or "ImportString" in names[1]


def _field_schema(schema: Any, name: str) -> Any:
    """Return the schema of a field in the schema of its model."""
    definitions: list[Any] = []
    while isinstance(schema, dict) and schema.get("type") != "model-fields":
        definitions += schema.get("definitions", ())
        if schema.get("type") == "definition-ref":
            found = [one for one in definitions if one.get("ref") == schema["schema_ref"]]
            schema = found[0] if found else None
        else:
            schema = schema.get("schema")
    if not isinstance(schema, dict) or name not in schema["fields"]:
        return None
    field = schema["fields"][name]["schema"]
    if not definitions:
        return field
    return {"type": "definitions", "schema": field, "definitions": definitions}


def is_alike(one: Any, two: Any) -> bool:
    """Return whether two values are equal and of the same types at all levels."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return len(one) == len(two) and all(map(is_alike, one.items(), two.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(is_alike, one, two))
    kind: Any = type(one)
    if kind.__eq__ is object.__eq__ and hasattr(one, "__dict__"):
        return is_alike(vars(one), vars(two))
    return bool(one == two)
