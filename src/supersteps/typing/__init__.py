"""Type annotations: reading them, and matching values and types to them."""

from __future__ import annotations

from supersteps.typing.annotations import (
    DEFINED_AGAIN,
    display_name,
    is_attrs_class,
    is_pydantic_model,
    is_struct_like,
    reachable_types,
    twin_of,
    type_name,
    unwrap,
)
from supersteps.typing.matching import is_subtype, matches, overlaps

__all__ = [
    "DEFINED_AGAIN",
    "display_name",
    "is_attrs_class",
    "is_pydantic_model",
    "is_struct_like",
    "is_subtype",
    "matches",
    "overlaps",
    "reachable_types",
    "twin_of",
    "type_name",
    "unwrap",
]
