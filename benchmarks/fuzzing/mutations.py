"""Ways to damage a file: its bytes, and what is written in it as text or JSON."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_WORDS = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"99999999999999999999"),
    *(b'""', b"[]", b"{}", b"[" * 2000, b'"\\ud800"', b"\xff\xfe", b"\x00", b"\r", b"\n\n"),
    *(b"..", b"/dev/zero", b"'", b'"', b"\\", b"x" * 5000, b"4611686018427387904"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**15, 1e308, "", "x", "float32", [], {}, [[]]),
    *([1, 2, 3], [2**40, 2**40], {"a": 1}, "x" * 5000, "../../etc/passwd", "\u2028", 0.5),
)


def damage(content: bytes, chance: random.Random) -> bytes:
    """Return the bytes of a file changed once to five times."""
    for _ in range(chance.randint(1, 5)):
        content = chance.choice(_WAYS)(content, chance)
    return content


def change_json(content: bytes, chance: random.Random) -> bytes:
    """Return JSON in which some value is another one, has moved, or is gone."""
    data = json.loads(content)
    for _ in range(chance.randint(1, 3)):
        holders = list(_holders(data))
        if not holders:
            break
        holder, key = chance.choice(holders)
        way = chance.randrange(4)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, dict):
            holder[chance.choice(("x", str(key) + "s", str(key)[:-1]))] = holder.pop(key)
        elif way == 2:
            other, name = chance.choice(holders)
            # A copy: what holds itself is no JSON.
            holder[key] = copy.deepcopy(other[name]) if _still_there(other, name) else None
        else:
            holder[key] = chance.choice(_VALUES)
    return json.dumps(data).encode()


def _still_there(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _holders(part: Any) -> Any:
    keys = part.keys() if isinstance(part, dict) else range(len(part))
    for key in list(keys):
        yield part, key
        if isinstance(part[key], dict | list):
            yield from _holders(part[key])


def _place(content: bytes, chance: random.Random) -> int:
    return chance.randrange(len(content) + 1)


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return content
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: _place(content, chance)]


def _drop(content: bytes, chance: random.Random) -> bytes:
    first = _place(content, chance)
    return content[:first] + content[first + chance.randint(1, 64) :]


def _insert(content: bytes, chance: random.Random) -> bytes:
    place = _place(content, chance)
    return content[:place] + chance.choice(_WORDS) + content[place:]


def _replace(content: bytes, chance: random.Random) -> bytes:
    place, word = _place(content, chance), chance.choice(_WORDS)
    return content[:place] + word + content[place + len(word) :]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    first = _place(content, chance)
    part = content[first : first + chance.randint(1, 512)]
    return content[:first] + part * chance.randint(2, 20) + content[first:]


def _zeros(content: bytes, chance: random.Random) -> bytes:
    first, length = _place(content, chance), chance.randint(1, 512)
    return content[:first] + bytes(length) + content[first + length :]


_WAYS = (_flip, _flip, _cut, _drop, _insert, _replace, _repeat, _zeros)
