"""What people type, as the value that a workflow takes."""

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
"""What stands for an input that is not given."""


def read_json(text: str) -> Any:
    """Return the JSON value of a text.

    Raises:
        InputError: It is no JSON; the message says where.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"this is no JSON: {error}") from error


def read_value(text: str) -> Any:
    """Return what a text says: its JSON value, or, where it is no JSON, the text itself."""
    try:
        return read_json(text)
    except InputError:
        return text


def read_input(workflow: Workflow, text: str | None) -> Any:
    """Return a workflow's input.

    Args:
        workflow: The workflow.
        text: JSON that stands for a value of a type that the start executor takes. Where it takes
            text, what is no JSON text is the text itself, and so it is for what JSON says by text,
            like dates. None stands for no input, which is `null`, and empty where text is wanted.

    Raises:
        InputError: It fits none of the types; it has their schemas.
    """
    kinds = workflow.input_types
    given = NO_INPUT if text is None else text
    reasons = []
    for kind in sorted(
        kinds, key=lambda kind: kind is str
    ):  # whatever is typed is text: the others come first
        if kind is str:
            return _as_text(given) if text is not None else ""
        try:
            return from_json(read_json(given), kind)
        except ValueError as error:
            reasons.append(f"as {display_name(kind)}: {error}")
    if text is not None:
        for kind in (
            kinds
        ):  # text where it is one of several, a name of an enum, a date: who would quote them?
            with contextlib.suppress(ValueError):
                return from_json(text, kind)
    start = workflow.get_start_executor().id
    schemas = [schema for kind in kinds if (schema := schema_of(kind)) is not None]
    wanted = " or ".join(map(display_name, kinds))
    takes = f"the start executor {start!r} of workflow {workflow.workflow_id!r} takes {wanted}, and"
    if text is None:
        raise InputError(f"{takes} no input was given.", schemas)
    raise InputError(
        f"{takes} {_quoted(text)} is none: {'; '.join(reasons).removesuffix('.')}.", schemas
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
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large a number")
    return number
