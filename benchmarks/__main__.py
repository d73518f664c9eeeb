"""`make bench`: every figure, each beside its floor, measured in one run."""

from __future__ import annotations

from benchmarks import engine, storage
from benchmarks.table import print_table


def main() -> None:
    """Measure and print."""
    print_table([*engine.main(), *storage.main()])


if __name__ == "__main__":
    main()
