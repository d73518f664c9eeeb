"""Errors of the service layer."""

from __future__ import annotations

from supersteps.errors import SuperstepsError


class ServiceError(SuperstepsError, ValueError):
    """Something was asked for that cannot be done as asked; nothing was changed."""


class ReferenceNotFoundError(ServiceError):
    """A reference means no run, checkpoint or question."""


class AmbiguousReferenceError(ServiceError):
    """A reference means several; the message lists them."""


class NoStoreError(ServiceError):
    """It is not said where runs are kept, or there is nothing."""


class ApplicationError(ServiceError):
    """The application that was named cannot be loaded, or is no workflow."""


class InputError(ServiceError):
    """An input is not what the workflow takes."""
