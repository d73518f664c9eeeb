"""Prompting a user for a value that fits a JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from supersteps.cli.prompt import Terminal
from supersteps.cli.schema_text import DEEPEST, choices, in_words, resolve
from supersteps.cli.typed_value import understand
from supersteps.service.errors import InputError
from supersteps.typing.schema import violation

_YES = ("y", "yes", "true")
_NO = ("n", "no", "false")
_MISSING: Any = object()


class Asker:
    """Prompts a user until the answer fits.

    Args:
        schema: JSON Schema of the answer.
        terminal: The user's terminal.
    """

    def __init__(self, schema: Any, terminal: Terminal) -> None:
        self._schema = schema
        self._terminal = terminal

    def ask(self) -> Any:
        """Prompt until an answer fits, and return it.

        Raises:
            click.Abort: The user gave up.
        """
        while True:
            value = self._ask(self._schema, "answer", 0)
            reason = violation(value, self._schema)
            if reason is None:
                return value
            self._terminal.write(
                f"that does not fit: {reason.removesuffix('.')}. Please try again."
            )

    def _ask(self, schema: Any, name: str, depth: int) -> Any:
        """Prompt for a required value."""
        schema = resolve(schema, self._schema)
        if schema.get("type") == "object" and schema.get("properties") and depth < DEEPEST:
            return self._ask_fields(schema, name, depth)
        return self._ask_line(schema, name, is_required=True)

    def _ask_fields(self, schema: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        found = {}
        for field, inner in schema["properties"].items():
            place = field if not depth else f"{name}.{field}"
            if field in required:
                found[field] = self._ask(inner, place, depth + 1)
                continue
            value = self._ask_line(resolve(inner, self._schema), place, is_required=False)
            if value is not _MISSING:
                found[field] = value
        return found

    def _ask_line(self, schema: dict[str, Any], name: str, *, is_required: bool) -> Any:
        """Prompt for one value on one line until it fits; return `_MISSING` if it is omitted."""
        numbered = self._show_choices(schema, name)
        prompt = (
            f"{name} "
            f"({self._wanted(schema, is_required=is_required, is_numbered=bool(numbered))}): "
        )
        if schema.get("description"):
            self._terminal.write(f"  {schema['description']}")
        while True:
            typed = self._terminal.read(prompt)
            if not typed:
                if not is_required:
                    return _MISSING
                self._terminal.write(
                    '  an answer is required; type "" for an empty text, Ctrl-C to quit'
                )
                continue
            try:
                value = self._read(typed, schema, numbered)
            except InputError as error:
                self._terminal.write(f"  {error}")
                continue
            reason = violation(value, self._inside(schema))
            if reason is None:
                return value
            self._terminal.write(f"  {reason}")

    def _show_choices(self, schema: dict[str, Any], name: str) -> list[Any]:
        """Show the choices, numbered unless the choices are numbers themselves."""
        options = choices(schema) or []
        if len(options) < 2 or any(isinstance(option, int | float) for option in options):
            return []
        self._terminal.write(f"{name}:")
        for number, option in enumerate(options, 1):
            self._terminal.write(
                f"  {number}  {option if isinstance(option, str) else json.dumps(option)}"
            )
        return options

    def _wanted(self, schema: dict[str, Any], *, is_required: bool, is_numbered: bool) -> str:
        words = "number or name" if is_numbered else in_words(schema, self._schema)
        if schema.get("type") == "boolean":
            words = "y/n"
        elif schema.get("type") in ("array", "object") or words == "any JSON":
            words += ", as JSON" if words != "any JSON" else ""
        if is_required:
            return words
        if "default" in schema:
            shown = schema["default"]
            shown = (
                ("y" if shown else "n")
                if isinstance(shown, bool)
                else json.dumps(shown, ensure_ascii=False)
            )
            return f"{words}; Enter for {shown}"
        return f"{words}; optional, Enter to omit it"

    def _read(self, typed: str, schema: dict[str, Any], numbered: list[Any]) -> Any:
        if numbered:
            names = {
                option if isinstance(option, str) else json.dumps(option): option
                for option in numbered
            }
            if typed in names:
                return names[typed]
            if typed.isdecimal() and 1 <= int(typed) <= len(numbered):
                return numbered[int(typed) - 1]
            beginning = [
                option for name, option in names.items() if name.lower().startswith(typed.lower())
            ]
            if len(beginning) == 1:
                return beginning[0]
            raise InputError(f"type a number from 1 to {len(numbered)}, or one of the names")
        if schema.get("type") == "boolean":
            if typed.lower() in (*_YES, *_NO):
                return typed.lower() in _YES
            raise InputError("type y or n")
        inside = self._inside(schema)
        try:
            return understand(typed, inside).value
        except InputError as error:
            if schema.get("type") in ("integer", "number"):
                raise InputError(f"{typed!r} is not a number") from error
            raise

    def _inside(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a part of the schema with the definitions it refers to."""
        whole = self._schema if isinstance(self._schema, dict) else {}
        return {**({"$defs": whole["$defs"]} if "$defs" in whole else {}), **schema}
