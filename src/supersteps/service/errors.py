"""Errors of the service layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supersteps.errors import SuperstepsError


class ServiceError(SuperstepsError, ValueError):
    """Something was asked for that cannot be done as asked; nothing was changed."""


class ReferenceNotFoundError(ServiceError):
    """A reference means no run, checkpoint or question."""


class AmbiguousReferenceError(ServiceError):
    """A reference means several; the message lists them."""


class NoStoreError(ServiceError):
    """It is not said where runs are kept, there is nothing, or what is there is no store."""


class ApplicationError(ServiceError):
    """The application that was named cannot be loaded, or is no workflow."""


class InputError(ServiceError):
    """An input is not what the workflow takes.

    Attributes:
        schemas: JSON Schemas of what it takes, where they are known.
    """

    def __init__(self, message: str, schemas: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.schemas = tuple(schemas)
