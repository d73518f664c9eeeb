"""Terms: which words of a text count, and which of them tell documents apart."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[a-z_]{3,}")

_STOP_TEXT = """
all also and any are been before being both but can could does done each either else etc even
following for from given has have here how however into its itself may might more most must name
not note now one only other otherwise out over own rather same see shall should since some such
than that the their them then there therefore these they thing this those through too two under
unless until upon use used uses using very was way were what when where whether which while who
whose why will with within without would yet you your
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())


@dataclass(frozen=True)
class Term:
    """A word, and where it occurs.

    Attributes:
        word: The word.
        total: How often it occurs.
        score: How well it tells documents apart: its total, weighed by how few documents have it.
        documents: Name and count of each document that has it, the greatest count first.
    """

    word: str
    total: int
    score: float
    documents: tuple[tuple[str, int], ...]


def count_terms(text: str) -> dict[str, int]:
    """Return how often each term occurs in a text, in alphabetical order."""
    counts = Counter(
        word for word in _WORD.findall(text.lower()) if word.strip("_") and word not in _STOP_WORDS
    )
    return dict(sorted(counts.items()))


def rank_terms(counts: Mapping[str, Mapping[str, int]], limit: int) -> tuple[Term, ...]:
    """Return the terms with the highest scores.

    Args:
        counts: The terms of each document.
        limit: How many terms to return.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for document, terms in counts.items():
        for word, count in terms.items():
            found.setdefault(word, []).append((document, count))
    ranked = [_term(word, documents, len(counts)) for word, documents in found.items()]
    return tuple(sorted(ranked, key=lambda term: (-term.score, term.word))[:limit])


def _term(word: str, documents: list[tuple[str, int]], all_documents: int) -> Term:
    total = sum(count for _, count in documents)
    weight = math.log((1 + all_documents) / len(documents))
    ordered = sorted(documents, key=lambda item: (-item[1], item[0]))
    return Term(word, total, round(total * weight, 3), tuple(ordered))
