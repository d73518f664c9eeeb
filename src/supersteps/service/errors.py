"""Errors of the service layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supersteps.errors import SuperstepsError


class ServiceError(SuperstepsError, ValueError):
    """A request that cannot be carried out as asked; nothing was changed."""


class ReferenceNotFoundError(ServiceError):
    """A reference matches no run, checkpoint or question."""


class AmbiguousReferenceError(ServiceError):
    """A reference matches several; the message lists them."""


class NoStoreError(ServiceError):
    """No store is named, it does not exist, or it is not a store."""


class ApplicationError(ServiceError):
    """The named application cannot be loaded, or is not a workflow."""


class InputError(ServiceError):
    """An input does not fit the workflow.

    Attributes:
        schemas: JSON Schemas of the accepted inputs, if known.
    """

    def __init__(self, message: str, schemas: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.schemas = tuple(schemas)
