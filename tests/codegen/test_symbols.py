"""Objects whose symbols get a prefix: what is no object, and what the linker makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tvm_eff import targets
from tvm_eff.codegen import toolchain
from tvm_eff.codegen.symbols import prefixed
from tvm_eff.errors import BuildError

SOURCE = """
#include <string.h>
#ifndef VALUE
#define VALUE 1
#endif
int shared = VALUE;
static int own(void) { return shared; }
int helper(const char *text) { return own() + (int)strlen(text); }
int entry(const char *text) { return helper(text) * 10; }
"""
USER = """
#include <stdio.h>
int one_entry(const char *), other_entry(const char *);
int main(void) { printf("%d %d\\n", one_entry("a"), other_entry("a")); return 0; }
"""


def compiled(folder: Path, *flags: str, source: str = SOURCE, name: str = "part") -> Path:
    (folder / f"{name}.c").write_text(source)
    toolchain.run(["cc", "-O2", *flags, "-c", folder / f"{name}.c", "-o", folder / f"{name}.o"])
    return folder / f"{name}.o"


@pytest.mark.parametrize("content", [b"", b"text", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(57)])
def test_what_is_no_object(content: bytes) -> None:
    with pytest.raises(BuildError, match="an object file"):
        prefixed(content, "one_", "")


def test_an_object_cut_short(tmp_path: Path) -> None:
    content = compiled(tmp_path).read_bytes()
    for length in range(0, len(content), 97):
        with pytest.raises(BuildError, match="an object file"):
            prefixed(content[:length], "one_", "")


@pytest.mark.parametrize("name", ["host", "rasp4", "rasp3-armv7"])
def test_two_of_one_source_in_one_program(name: str, tmp_path: Path) -> None:
    chosen = targets.load(name)
    target = ("-target", chosen.toolchain.zig_triple)
    user = compiled(tmp_path, *target, source=USER, name="user")
    objects = [user]
    for prefix, value in (("one", 1), ("other", 5)):
        part = compiled(
            tmp_path, *target, f"-DVALUE={value}", f"-Dentry={prefix}_entry", name=prefix
        )
        part.write_bytes(prefixed(part.read_bytes(), f"{prefix}.", f"{prefix}_entry"))
        objects.append(part)
    toolchain.run(["cc", "-O2", *target, *objects, "-o", tmp_path / "program"])
    if chosen.is_host:
        done = subprocess.run(tmp_path / "program", capture_output=True, text=True, check=True)
        assert done.stdout == "20 60\n"
