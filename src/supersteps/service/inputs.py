"""Typed text as the input of a workflow."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

from supersteps.run.workflow import Workflow
from supersteps.service.errors import InputError
from supersteps.typing.annotations import display_name
from supersteps.typing.schema import from_json, schema_of

NO_INPUT = "null"
"""The input if none is passed."""


def read_json(text: str) -> Any:
    """Parse a JSON text.

    Raises:
        InputError: It is not valid JSON; the message says where.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"this is not valid JSON: {error}") from error


def read_value(text: str) -> Any:
    """Return the JSON value of a text, or the text itself if it is not valid JSON."""
    try:
        return read_json(text)
    except InputError:
        return text


def read_input(workflow: Workflow, text: str | None) -> Any:
    """Parse the input of a workflow.

    Args:
        workflow: The workflow.
        text: JSON for a value that the start executor accepts. If it accepts text, or a value that
            JSON writes as text such as a date, quotes are not needed. None means no input, which is
            `null`, or an empty text if text is accepted.

    Raises:
        InputError: It fits none of the types; the error has their schemas.
    """
    kinds = workflow.input_types
    given = NO_INPUT if text is None else text
    reasons = []
    for kind in sorted(
        kinds, key=lambda kind: kind is str
    ):  # any input is valid text, so the other types come first
        if kind is str:
            return _as_text(given) if text is not None else ""
        try:
            return from_json(read_json(given), kind)
        except ValueError as error:
            reasons.append(f"as {display_name(kind)}: {error}")
    if text is not None:
        for (
            kind
        ) in kinds:  # text among other types, an enum's name, a date: accepted without quotes
            with contextlib.suppress(ValueError):
                return from_json(text, kind)
    start = workflow.get_start_executor().id
    schemas = [schema for kind in kinds if (schema := schema_of(kind)) is not None]
    wanted = " or ".join(map(display_name, kinds))
    takes = f"the start executor {start!r} of workflow {workflow.workflow_id!r} takes {wanted}, and"
    if text is None:
        raise InputError(f"{takes} no input was given.", schemas)
    raise InputError(
        f"{takes} {_quoted(text)} does not fit: {'; '.join(reasons).removesuffix('.')}.", schemas
    )


def _as_text(given: str) -> str:
    try:
        value = read_json(given)
    except InputError:
        return given
    return value if isinstance(value, str) else given


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large a number")
    return number
