"""Ways to spoil stored data: its bytes, or the JSON in it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

TAGS: tuple[Any, ...] = (
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:open",
    "builtins:object",
    "antigravity:geohash",
    "this:s",
    "ctypes:CDLL",
    "tests.reliability.workload:Clerk",
    "tests.reliability.workload:os.system",
    "supersteps.errors:StorageError",
    "pathlib:Path",
    "lib2to3.main:main",
    "a" * 10_000 + ":b",
    "a:" + ".".join("b" * 1_000),
    ":",
    "::",
    "",
    "\0:\0",
    "../../etc/passwd:x",
    "request.json",
    "request.defaulted",
    "Tuple",
    None,
    1,
    1.5,
    True,
    [],
    {},
    ["tuple"],
    {"$": "str", "v": "tuple"},
    *("tuple", "set", "frozenset", "dict", "OrderedDict", "Counter", "deque", "int", "float"),
    *("complex", "Fraction", "Decimal", "str", "bytes", "bytearray", "UUID", "date", "datetime"),
    *("time", "timedelta", "timezone", "ZoneInfo", "UNSET", "PosixPath", "PurePosixPath"),
    *("WindowsPath", "PureWindowsPath", "PurePath"),
)  # fmt: skip
"""What is put in the place of a type's name."""

LEAVES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**53 + 1,
        2**63,
        -(2**63) - 1,
        2**64,
        10**40,
        0.5,
        -0.0,
        1e308,
    ),
    5e-324,
    *(
        "",
        "\0",
        "\n",
        "x" * 10_000,
        "../../../etc/passwd",
        "/etc/passwd",
        "' OR 1=1 --",
        "%",
        "*",
        "\U0001d518",
    ),
    *("‮", "e\u0301"),
    *("1e999999", "9" * 5_000, "0x" + "f" * 5_000, "nan", "-inf", "NaN", "sNaN", "2026-13-45"),
    "2026-01-01T00:00:00Z",
    *(
        "Europe/Berlin",
        "../UTC",
        "posixrules",
        "9999-12-31T23:59:59.999999-23:59",
        "=",
        "====",
        "AAAA",
    ),
    "\\ud800",
    *(
        [],
        {},
        [[]],
        [None] * 100,
        {"": None},
        {"$": "tuple"},
        {"$": "tuple", "v": {}},
        {"$": None},
        {"v": 1},
    ),
)
"""What is put where a value belongs."""

RAW: tuple[bytes, ...] = (
    b"1e999999",
    b"-1e-999999",
    b"1" * 100_000,
    b"-" + b"9" * 4_301,
    b"0." + b"1" * 100_000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b"[" * 501 + b"]" * 501,
    b'{"$":"tuple","v":[' * 400 + b"]}" * 400,
    b'{"$":"a:b","v":' * 300 + b"1" + b"}" * 300,
    b'"\\ud800"',
    b'"\\ud800\\ud800"',
    b'"\xff\xfe"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf[]",
    b"\xff\xfe[\0]\0",
    b"\0",
    b'"\0"',
    b"NaN",
    b"Infinity",
    b"'x'",
    b"// x\n1",
    b"[1,]",
    b'{"a":1,"a":2}',
    b'{"$":"tuple","$":"os:system","v":[]}',
    b'{"$":"tuple","v":[1],"v":[2]}',
    b'{"\\u0024":"os:system","v":["true"]}',
    b'{"$":"deque","v":[],"maxlen":9223372036854775807}',
    b'{"$":"timedelta","v":[999999999,0,0]}',
    b'{"$":"timedelta","v":[9999999999,0,0]}',
    b'{"$":"Decimal","v":"1e999999999999999999"}',
    b'{"$":"Fraction","v":[1,0]}',
    b'{"$":"set","v":[1,1.0]}',
    b'{"$":"set","v":[[]]}',
    b'{"$":"dict","v":[[{"$":"set","v":[]},1]]}',
    b'{"$":"ZoneInfo","v":"../../../../etc/passwd"}',
    b'{"$":"bytes","v":"' + b"A" * 400_000 + b'"}',
    b'{"$":"int","v":"0x' + b"f" * 100_000 + b'"}',
    b"",
    b" " * 100_000,
)  # fmt: skip
"""What no writer of JSON would write, or what is costly to read."""

VERSIONS: tuple[Any, ...] = (
    "2.0",
    "10.0",
    "99",
    "1",
    "0.9",
    "",
    "x",
    "1.0.0",
    "-1.0",
    "²",
    "1" * 5_000,
    None,
    2,
    [],
    {},
)


# -------------------------------------------------------------------------------------------- bytes


def flip(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    spoilt = bytearray(data or b"\0")
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        spoilt[dice.randrange(len(spoilt))] ^= 1 << dice.randrange(8)
    return bytes(spoilt)


def set_bytes(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    spoilt = bytearray(data or b"\0")
    at = dice.randrange(len(spoilt))
    length = dice.choice((1, 1, 2, 4, 64))
    spoilt[at : at + length] = (
        bytes([dice.choice((0, 255, 34, 92, 123, 125, 48, 57, dice.randrange(256)))]) * length
    )
    return bytes(spoilt)


def cut(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
    return dice.choice((data[:begin], data[end:], data[:begin] + data[end:]))


def double(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
    return data[:end] + data[begin:end] * dice.choice((1, 1, 2, 50)) + data[end:]


def splice(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = dice.choice(others)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def insert(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(RAW)[:200_000] + data[at:]


def replace(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return dice.choice(RAW)


BYTES: tuple[Mutator, ...] = (flip, set_bytes, cut, double, splice, insert)


# --------------------------------------------------------------------------------------------- JSON


def mutate_json(dice: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change values and shapes inside a document that remains JSON, or nearly so."""
    try:
        tree = json.loads(data)
    except ValueError:
        return flip(dice, data, others)
    holes: dict[str, bytes] = {}
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        tree = _mutate(dice, tree, others, holes)
    spoilt = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    for name, content in holes.items():
        spoilt = spoilt.replace(f'"{name}"'.encode(), content)
    return spoilt


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every container of a tree with each of its keys or indexes."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found += [(node, key) for key in node]
            waiting += [value for value in node.values() if isinstance(value, (dict, list))]
        elif isinstance(node, list):
            found += [(node, index) for index in range(len(node))]
            waiting += [value for value in node if isinstance(value, (dict, list))]
    return found


def _mutate(
    dice: random.Random, tree: Any, others: Sequence[bytes], holes: dict[str, bytes]
) -> Any:
    found = places(tree)
    if not found:
        return copy.deepcopy(dice.choice(LEAVES))
    tags = [(node, key) for node, key in found if key == "$"]
    if tags and dice.random() < 0.4:
        node, key = dice.choice(tags)
        node[key] = copy.deepcopy(dice.choice(TAGS))
        return tree
    node, key = dice.choice(found)
    way = dice.randrange(9)
    if way == 0:  # two subtrees change places
        other, place = dice.choice(found)
        node[key], other[place] = (
            json.loads(json.dumps(other[place])),
            json.loads(json.dumps(node[key])),
        )
    elif way == 1 and isinstance(node, dict):  # an unknown field
        node[
            dice.choice(("unknown", "", "$", "$value", "v", "tz", "__class__", "\0", "version"))
        ] = copy.deepcopy(dice.choice(LEAVES))
    elif way == 2:
        del node[key]
    elif way == 3 and isinstance(node, list):
        node.insert(key, json.loads(json.dumps(node[key])))
    elif way == 4 and isinstance(node, dict):  # the same name twice
        hole = f"hole-{len(holes)}"
        holes[hole] = b"%s:1,%s" % ((json.dumps(key).encode(),) * 2)
        node[hole] = node.pop(key)
    elif way == 5:
        hole = f"hole-{len(holes)}"
        holes[hole] = dice.choice(RAW)
        node[key] = hole
    elif (
        way == 6 and (donor := _parsed(dice.choice(others))) is not None
    ):  # a subtree of another document
        theirs = places(donor)
        node[key] = theirs[dice.randrange(len(theirs))][0] if theirs else donor
    elif way == 7:
        node[key] = {
            "$": copy.deepcopy(dice.choice(TAGS)),
            dice.choice(("v", "$value", "x")): node[key],
        }
    elif "version" in node and isinstance(node, dict):
        node["version"] = copy.deepcopy(dice.choice(VERSIONS))
    else:
        node[key] = copy.deepcopy(dice.choice(LEAVES))
    return tree


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def mutate(dice: random.Random, data: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """Spoil data in one of all ways; return the way's name and what came of it."""
    mutator = dice.choice((*BYTES, mutate_json, mutate_json, mutate_json, mutate_json))
    if dice.random() < 0.02:
        mutator = replace
    return mutator.__name__, mutator(dice, data, others)
