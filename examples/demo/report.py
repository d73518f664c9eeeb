"""The report: one HTML page with an index and a bar picture for each term. The same terms give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from .terms import Term

_BARS = 12
"""How many documents a term's picture shows."""

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1c2430; --soft: #667085; --line: #d9dee7; --bar: #2f6fb3; --page: #fbfcfe; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ef; --soft: #98a2b3; --line: #2d3644; --bar: #6aa9e9; --page: #12171f; }
}
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem;
  background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 0; }
p, .soft { color: var(--soft); }
a { color: var(--bar); text-decoration: none; } a:hover { text-decoration: underline; }
.index { columns: 4 11rem; padding: 0; list-style: none; } .index li { break-inside: avoid; }
.index .letter { color: var(--soft); font-weight: 600; margin-top: .4rem; }
section { border-top: 1px solid var(--line); padding: 1rem 0; }
svg { display: block; margin-top: .5rem; max-width: 100%; }
svg rect { fill: var(--bar); } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .count { fill: var(--soft); }
""".strip()


def render_report(documents: int, terms: Sequence[Term]) -> str:
    """Return the report as HTML that needs no other file.

    Args:
        documents: How many documents were read.
        terms: The terms, the best first.
    """
    body = [
        "<h1>What Python's help topics talk about</h1>",
        f"<p>{documents} documents, the {len(terms)} terms that tell them apart best. A term's "
        "score is its number of occurrences, weighed by how few documents have it.</p>",
        "<h2>Index</h2>",
        *_index(terms),
        "<h2>Terms by score</h2>",
        *(_section(place, term) for place, term in enumerate(terms, 1)),
    ]
    head = (
        '<meta charset="utf-8">\n<title>Terms</title>\n'
        f'<meta name="viewport" content="width=device-width">\n{_style()}'
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _style() -> str:
    return f"<style>\n{_STYLE}\n</style>"


def _index(terms: Sequence[Term]) -> Iterable[str]:
    places = {term.word: place for place, term in enumerate(terms, 1)}
    yield '<ul class="index">'
    ordered = sorted(places, key=lambda word: (word.strip("_"), word))
    for letter, words in groupby(ordered, key=lambda word: word.strip("_")[0].upper()):
        yield f'<li class="letter">{letter}</li>'
        for word in words:
            link = f'<a href="#{escape(word)}">{escape(word)}</a>'
            yield f'<li>{link} <span class="soft">{places[word]}</span></li>'
    yield "</ul>"


def _section(place: int, term: Term) -> str:
    shown = term.documents[:_BARS]
    rest = len(term.documents) - len(shown)
    more = f", {rest} more not shown" if rest else ""
    facts = f"{term.total} times in {len(term.documents)} documents{more}; score {term.score:.1f}"
    return (
        f'<section id="{escape(term.word)}">\n<h3>{place}. {escape(term.word)}</h3>\n'
        f'<span class="soft">{facts}</span>\n{_bars(term.word, shown)}\n</section>'
    )


def _bars(word: str, documents: Sequence[tuple[str, int]]) -> str:
    """Return a picture with a bar for each document, as long as its count."""
    left, width, height = 190, 440, 18
    greatest = max(count for _, count in documents)
    rows = []
    for row, (document, count) in enumerate(documents):
        y = row * height
        length = max(1, round(width * count / greatest))
        rows.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(document)}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{length}" height="{height - 6}" rx="2"/>'
            f'<text class="count" x="{left + length + 6}" y="{y + 13}">{count}</text>'
        )
    size = f'width="{left + width + 50}" height="{len(documents) * height}"'
    view = f'viewBox="0 0 {left + width + 50} {len(documents) * height}"'
    label = escape(f"Occurrences of {word} by document")
    return f'<svg {size} {view} role="img" aria-label="{label}">\n' + "\n".join(rows) + "\n</svg>"
