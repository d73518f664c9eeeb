"""docs/PERFORMANCE.md shows what is recorded, and nothing else between its comments."""

import re
from typing import Any

import pytest

from benchmarks import document, report
from benchmarks.figures import figure
from benchmarks.workloads import WORKLOADS

PAGE = """Before.

<!-- table: bench one two -->
old
<!-- end of table -->

Between.

<!-- table: bench two -->
<!-- end of table -->
"""
MACHINE: dict[str, Any] = {
    "date": "today",
    "commit": "abc",
    "python": "CPython 3.11.7",
    "sqlite": "3.40.1",
    "system": "Linux",
    "disk": "ext4",
    "processors": 2,
    "load": 0.1,
}


def results(*names: str) -> dict[str, Any]:
    return {name: report.as_json(MACHINE, [figure(name, [1.0])], 1.0) for name in names}


def test_tables_are_filled_with_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "read", lambda path: results("one", "two"))
    page = document.rendered(PAGE)
    assert "old" not in page
    assert page.count("| two | 1 |  |") == 2
    assert page.count("| one | 1 |  |") == 1
    assert page.count("Measured today at abc") == 2  # once for each table
    assert page.startswith("Before.\n\n<!-- table: bench one two -->\n\n| figure |")
    assert document.rendered(page) == page


def test_shares_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [figure("bare: a.py", [60.4]), figure("bare: b.py", [39.6]), figure("memory: c", [9])]
    recorded = {"shares": report.as_json(MACHINE, figures, 1.0)}
    monkeypatch.setattr(document, "read", lambda path: recorded)
    page = document.rendered("<!-- table: shares -->\n<!-- end of table -->")
    assert "| bare | memory |\n| --- | --- |\n| 60 % a.py | 9 % c |\n| 40 % b.py |  |" in page


def test_what_is_not_measured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "read", lambda path: results("two"))
    assert "Not measured yet: one." in document.rendered(PAGE)


def test_the_page_shows_what_is_recorded() -> None:
    page = document.PAGE.read_text(encoding="utf-8")
    assert document.rendered(page) == page, "run `python -m benchmarks.document`"


def test_the_page_shows_every_workload() -> None:
    page = document.PAGE.read_text(encoding="utf-8")
    named = " ".join(re.findall(r"<!-- table: bench ([\w -]+) -->", page)).split()
    assert "<!-- table: shares -->" in page
    assert sorted([*named, "shares"]) == sorted(workload.name for workload in WORKLOADS)


def test_results_are_written_and_read(tmp_path: Any) -> None:
    path = tmp_path / "results" / "bench.json"
    assert document.read(path) == {}
    document.write(path, results("one"))
    assert document.read(path) == results("one")
