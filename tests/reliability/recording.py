"""What a process did to the disk, call by call, and the disks that a power cut may leave behind.

A process of the workload is traced, so that its writes, renames and syncs are known with their
data. The disk after a power cut consists of everything that was synced and of any part of the rest:
writes in any selection, the last one torn between two sectors; names in any selection that makes
sense.
"""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.reliability.judging import environment
from tests.reliability.tracing import PYTHON, ROOT

T = TypeVar("T")

SECTOR = 512
_TRACED = (
    "openat,creat,write,pwrite64,writev,lseek,fsync,fdatasync,rename,renameat,renameat2,"
    "unlink,unlinkat,ftruncate,mkdir,mkdirat,rmdir,link,linkat"
)


@dataclass(frozen=True)
class Op:
    """Something that was done.

    Attributes:
        kind: "create", "write", "truncate", "sync", "rename", "unlink", "mkdir", "rmdir", "link",
            or "said" for a line on standard output.
        path: Of what, inside the recorded folder.
        data: What was written or said.
        offset: Where it was written, or to what length it was cut.
        target: The new name.
    """

    kind: str
    path: str = ""
    data: bytes = b""
    offset: int = 0
    target: str = ""


# ---------------------------------------------------------------------------------------- recording


def record(folder: Path, store: str, operations: tuple[str, ...]) -> list[Op]:
    """Let the workload live in a folder; return what it did there, in order."""
    with tempfile.TemporaryDirectory() as elsewhere:
        log = Path(elsewhere, "log")
        command = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-y",
            "-xx",
            "-s",
            "100000000",
            "-o",
            str(log),
        ]
        command += [
            "-e",
            f"trace={_TRACED}",
            PYTHON,
            "-m",
            "tests.reliability.workload",
            str(folder / store),
        ]
        done = subprocess.run(
            [*command, *operations], cwd=ROOT, env=environment(), capture_output=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"the recorded workload failed: {done.stderr.decode()}")
        return list(_ops(_whole_lines(log.read_text()), str(folder)))


def _whole_lines(log: str) -> Iterator[str]:
    """Join calls that another thread's line has cut in two; one counts when it returned."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").rstrip()
        elif (resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call)) is not None:
            yield begun.pop(thread) + resumed[1]
        else:
            yield call


_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\w+)(?:<(.*?)>)?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def _ops(calls: Iterator[str], folder: str) -> Iterator[Op]:
    positions: dict[str, int] = {}
    lengths: dict[str, int] = {}
    appending: set[str] = set()

    def inside(path: str) -> str | None:
        return path[len(folder) + 1 :] if path.startswith(folder + "/") else None

    for call in calls:
        found = _CALL.match(call)
        if found is None or found[3].startswith("-"):
            continue
        name, arguments, result = found[1], found[2], found[3]
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
        opened = re.match(r"(\d+)<((?:\\x[0-9a-f]{2})*)", arguments)
        number = opened[1] if opened else ""
        path = inside(bytes.fromhex(opened[2].replace("\\x", "")).decode()) if opened else None
        if name == "writev" and number == "1":
            yield Op("said", data=b"".join(texts))
        elif name in ("openat", "creat"):
            place = inside(texts[0].decode())
            if place is None or "O_DIRECTORY" in arguments:
                continue
            if "O_CREAT" in arguments and place not in lengths:
                lengths[place] = 0
                yield Op("create", place)
            if "O_TRUNC" in arguments and lengths.get(place):
                lengths[place] = 0
                yield Op("truncate", place)
            positions[result] = 0
            (appending.add if "O_APPEND" in arguments else appending.discard)(result)
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            source, target = inside(texts[0].decode()), inside(texts[1].decode())
            if source is not None and target is not None:
                if name.startswith("rename"):
                    lengths[target] = lengths.pop(source, 0)
                    yield Op("rename", source, target=target)
                else:
                    lengths[target] = lengths.get(source, 0)
                    yield Op("link", source, target=target)
        elif name in ("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"):
            place = inside(texts[0].decode())
            if place is not None:
                lengths.pop(place, None)
                yield Op(name.removesuffix("at"), place)
        elif (
            path is None
            and opened
            and bytes.fromhex(opened[2].replace("\\x", "")).decode() == folder
        ):
            yield Op("sync", "")
        elif path is not None and name in ("write", "pwrite64"):
            data = texts[0][: int(result)]
            if name == "pwrite64":
                offset = int(arguments.rpartition(",")[2])
            else:
                offset = lengths.get(path, 0) if number in appending else positions.get(number, 0)
                positions[number] = offset + len(data)
            lengths[path] = max(lengths.get(path, 0), offset + len(data))
            yield Op("write", path, data, offset)
        elif path is not None and name == "lseek":
            positions[number] = int(result)
        elif path is not None and name == "ftruncate":
            lengths[path] = int(arguments.rpartition(",")[2])
            yield Op("truncate", path, offset=lengths[path])
        elif path is not None and name in ("fsync", "fdatasync"):
            yield Op("sync", path)


# --------------------------------------------------------------------------------------- power cuts


class Disk:
    """A disk with a cache that loses its power: what is synced stays, the dice decide on the rest.

    Names and contents are separate, as POSIX has it: syncing a file keeps its content, syncing its
    folder keeps its name.
    """

    def __init__(self) -> None:
        self._names: dict[
            str, int
        ] = {}  # as processes see them; a folder is a name with a number too
        self._synced_names: dict[str, int] = {}
        self._name_changes: list[tuple[Op, int]] = []
        self._contents: list[bytearray] = []
        self._changes: list[list[Op]] = []
        self._folders: set[int] = set()

    def do(self, op: Op) -> None:
        """Take note of something that was done."""
        if op.kind in ("create", "mkdir"):
            self._contents.append(bytearray())
            self._changes.append([])
            self._change_names(op, len(self._contents) - 1)
            if op.kind == "mkdir":
                self._folders.add(len(self._contents) - 1)
        elif op.kind in ("rename", "link", "unlink", "rmdir"):
            self._change_names(op, self._names[op.path])
        elif op.kind in ("write", "truncate"):
            self._changes[self._names[op.path]].append(op)
        elif op.kind == "sync":
            self._sync(op.path)

    def _change_names(self, op: Op, number: int) -> None:
        _apply(self._names, op, number)
        self._name_changes.append((op, number))

    def _sync(self, path: str) -> None:
        number = self._names.get(path)
        if number is not None and self._changes[number]:
            for change in self._changes[number]:
                _write(self._contents[number], change)
            self._changes[number].clear()
        kept = []
        for op, changed in self._name_changes:
            if path in {_parent(op.path), _parent(op.target or op.path)}:
                _apply(self._synced_names, op, changed)
            else:
                kept.append((op, changed))
        self._name_changes = kept

    def everything(self) -> list[Op]:
        """Return the syncs after which nothing can be lost."""
        return [Op("sync", path) for path in ["", *self._names]]

    def lose_power(self, folder: Path, dice: random.Random) -> None:
        """Write what is left into an empty folder."""
        names = dict(self._synced_names)
        for op, number in _some(self._name_changes, dice):
            _apply(names, op, number)
        for path, number in sorted(names.items()):
            ancestors = path.split("/")[:-1]
            if all("/".join(ancestors[:depth]) in names for depth in range(1, len(ancestors) + 1)):
                place = folder / path
                if number in self._folders:
                    place.mkdir(exist_ok=True)
                elif not path.endswith("-shm"):  # shared memory, which is recreated
                    place.write_bytes(self._content(number, dice))

    def _content(self, number: int, dice: random.Random) -> bytes:
        content = bytearray(self._contents[number])
        survivors = _some(self._changes[number], dice)
        for place, op in enumerate(survivors):
            is_torn = place == len(survivors) - 1 and len(op.data) > SECTOR and dice.random() < 0.3
            kept = dice.randrange(0, len(op.data), SECTOR) if is_torn else None
            _write(content, op, None if kept is None else op.data[:kept])
        return bytes(content)


def _some(items: list[T], dice: random.Random) -> list[T]:
    """Return what survives of unsynced changes: nothing, all, the first ones, or any of them."""
    match dice.randrange(5):
        case 0:
            return []
        case 1:
            return list(items)
        case 2:
            return items[: dice.randint(0, len(items))]
        case _:
            share = dice.random()
            return [item for item in items if dice.random() < share]


def _apply(names: dict[str, int], op: Op, number: int) -> None:
    if op.kind in ("create", "mkdir"):
        names[op.path] = number
    elif op.kind == "rename":
        names.pop(op.path, None)
        names[op.target] = number
    elif op.kind == "link":
        names[op.target] = number
    else:
        names.pop(op.path, None)


def _write(content: bytearray, op: Op, data: bytes | None = None) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    written = op.data if data is None else data
    content.extend(bytes(max(0, op.offset - len(content))))
    content[op.offset : op.offset + len(written)] = written


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
