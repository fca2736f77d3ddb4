"""Reading a target file strictly: every mistake names the file, the key and what is expected."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tvm_eff.errors import TargetError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """Return what the file holds.

    Raises
    ------
    TargetError
        The file is missing, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TargetError(f"no target file {path}: check the path") from error
    except OSError as error:
        raise TargetError(f"cannot read the target file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TargetError(f"{path} is not UTF-8 text: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"{path} is not valid TOML: {error}") from error


class Table:
    """One table of a target file.

    Every key is asked for by the method that says what its value must be;
    :meth:`finish` then refuses the keys nobody asked for.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self._values = values
        self._path = path
        self._prefix = prefix
        self._known: set[str] = set()

    def filled_with(self, found: Mapping[str, Mapping[str, Any]]) -> Table:
        """Return the table with `found` standing in for what the file leaves out."""
        values = dict(self._values)
        for key, table in found.items():
            given = values.get(key, {})
            if isinstance(given, Mapping):  # anything else is refused when it is asked for
                values[key] = {**table, **given}
        filled = Table(values, self._path, self._prefix)
        filled._known |= self._known
        return filled

    def has(self, key: str) -> bool:
        """Whether the optional `key` is there."""
        self._known.add(key)
        return key in self._values

    def table(self, key: str) -> Table:
        """Return the table `key`."""
        value = self._get(key, "a table")
        if not isinstance(value, dict):
            self._refuse(key, value, f"a table, written [{key}]")
        return Table(value, self._path, f"{self._prefix}{key}.")

    def optional_table(self, key: str) -> Table | None:
        """Return the table `key`, or None if it is not there."""
        return self.table(key) if self.has(key) else None

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        if not self.has(key):
            return default
        value = self._values[key]
        if not isinstance(value, bool):
            self._refuse(key, value, "true or false")
        return value

    def text(self, key: str, *, empty: bool = False) -> str:
        """Return a string."""
        value = self._get(key, "a string")
        if not isinstance(value, str) or not (empty or value.strip()):
            self._refuse(key, value, "a string" if empty else "a string that is not empty")
        return value

    def name(self, key: str) -> str:
        """Return a string that can name a folder."""
        expected = "a name of letters, digits, '.', '_' and '-', such as \"rasp4\""
        return self._matching(key, r"[A-Za-z0-9][A-Za-z0-9._-]*", expected)

    def version(self, key: str) -> str:
        """Return a version of two numbers."""
        return self._matching(key, r"\d+\.\d+", 'a version in quotes, such as "2.31"')

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """Return one of the `allowed` strings."""
        value = self._get(key, " or ".join(f'"{word}"' for word in allowed))
        if value not in allowed or not isinstance(value, str):
            hint = nearest(str(value), allowed)
            self._refuse(key, value, " or ".join(f'"{word}"' for word in allowed), hint)
        return value

    def features(self, key: str) -> tuple[str, ...]:
        """Return CPU features, each with its sign."""
        value = self._get(key, "a list of strings")
        words = value if isinstance(value, list) else [None]
        if not all(isinstance(word, str) and re.fullmatch(r"[+-]\S+", word) for word in words):
            self._refuse(key, value, 'a list of CPU features with their sign, such as ["+neon"]')
        return tuple(words)

    def integer(self, key: str, least: int, most: int) -> int:
        """Return an integer within bounds."""
        expected = f"an integer from {least} to {most}"
        value = self._get(key, expected)
        if type(value) is not int or not least <= value <= most:
            self._refuse(key, value, expected)
        return value

    def power_of_two(self, key: str, least: int, most: int) -> int:
        """Return a power of two within bounds."""
        expected = f"a power of two from {least} to {most}"
        value = self._get(key, expected)
        if type(value) is not int or not least <= value <= most or value & (value - 1):
            self._refuse(key, value, expected)
        return value

    def number(self, key: str, least: float, most: float) -> float:
        """Return a number within bounds."""
        expected = f"a number from {least} to {most}"
        value = self._get(key, expected)
        if type(value) not in (int, float) or not least <= value <= most:
            self._refuse(key, value, expected)
        return float(value)

    def refuse_whole(self, reason: str) -> NoReturn:
        """Refuse the table, whatever it holds."""
        raise TargetError(f"{self._path}: leave [{self._prefix.rstrip('.')}] out: {reason}")

    def finish(self) -> None:
        """Refuse keys that nobody asked for.

        Raises
        ------
        TargetError
            There is such a key.
        """
        for key in self._values:
            if key not in self._known:
                raise TargetError(
                    f"{self._path}: unknown key '{self._prefix}{key}'{nearest(key, self._known)}"
                )

    def _matching(self, key: str, pattern: str, expected: str) -> str:
        value = self._get(key, expected)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self._refuse(key, value, expected)
        return value

    def _get(self, key: str, expected: str) -> Any:
        self._known.add(key)
        if key in self._values:
            return self._values[key]
        raise TargetError(
            f"{self._path}: the key '{self._prefix}{key}' is missing{self._misspelt(key)}; "
            f"expected {expected}"
        )

    def _misspelt(self, key: str) -> str:
        close = difflib.get_close_matches(key, self._values.keys() - self._known, n=1)
        return (
            f" (the file has '{self._prefix}{close[0]}': is that a misspelling?)" if close else ""
        )

    def _refuse(self, key: str, value: object, expected: str, hint: str = "") -> NoReturn:
        raise TargetError(
            f"{self._path}: '{self._prefix}{key}' is {value!r}; expected {expected}{hint}"
        )
