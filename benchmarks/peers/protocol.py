"""How a script is measured: the same for each, with nothing but the standard library.

A script offers modes. Each is entered once, gives a function that runs the work for a number of
steps, and is left. For each mode that is asked for, the script prints one line of JSON: how many
steps it ran, and in how many seconds. Starting Python, importing and opening files do not count.
"""

from __future__ import annotations

import asyncio
import json
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

Run = Callable[[int], Awaitable[None]]
Mode = Callable[[Path], AbstractAsyncContextManager[Run]]


async def measured(mode: Mode, folder: Path, steps: int, seconds: float) -> tuple[int, float]:
    """Run the work once to warm up, then again and again until so many seconds have passed.

    Returns:
        How many steps that were after the first run, and how many seconds they took.
    """
    async with mode(folder) as run:
        await run(steps)
        started, done = time.perf_counter(), 0
        while True:
            await run(steps)
            done += steps
            taken = time.perf_counter() - started
            if taken >= seconds:
                return done, taken


def main(modes: Mapping[str, Mode]) -> None:
    """Measure what the command line asks for."""
    parser = ArgumentParser()
    parser.add_argument("modes", nargs="*")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=0.5)
    asked = parser.parse_args()
    for name in asked.modes or modes:
        if name in modes:
            folder = asked.folder / name
            folder.mkdir()
            run = measured(modes[name], folder, asked.steps, asked.seconds)
            steps, seconds = asyncio.run(run)
            print(json.dumps({"mode": name, "steps": steps, "seconds": seconds}), flush=True)
