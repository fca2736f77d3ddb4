"""From source to programs: what is wrong is said, and the cache of binaries mends itself."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from made_modules import MadeKernel, call, load, loader, module_bytes, on_device
from tvm import te

Run = Callable[..., Any]

NAMES = ("good", "bad")
TWO = [MadeKernel(name, ("handle",)) for name in NAMES]
# As TVM writes it: each section declares all kernels again.
DECLARED = "".join(f"__kernel void {name}(__global int* x);\n" for name in NAMES)
TWO_SOURCE = (
    f"// Function: good\n{DECLARED}__kernel void good(__global int* x) {{ x[0] = 7; }}\n"
    f"// Function: bad\n{DECLARED}__kernel void bad(__global int* x) {{ x[0] = nowhere; }}\n"
)


def _call_one_of_two(name: str, number: int) -> int:
    x = on_device(np.zeros(1, "int32"), number)
    call(load(TWO_SOURCE, *TWO), name, [x])
    return int(x.numpy()[0])


def test_build_log(run: Run, number: int) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)'bad' does not compile for .*nowhere"):
        run(_call_one_of_two, "bad", number)


def test_kernels_are_built_one_by_one(run: Run, number: int) -> None:
    assert run(_call_one_of_two, "good", number) == 7


def _float16(number: int) -> None:
    x = te.placeholder((64,), "float16", name="x")
    y = te.compute((64,), lambda i: x[i] + tvm.tirx.const(1, "float16"), name="y")
    values = np.arange(64, dtype="float16")
    result = on_device(np.zeros(64, "float16"), number)
    _compiled(te.create_prim_func([x, y]))["main"](on_device(values, number), result)
    assert (result.numpy() == values + 1).all()


def _compiled(function: Any) -> Any:
    from tvm.s_tir import dlight

    target = tvm.target.Target(
        {"kind": "opencl", "device": "mali", "max_num_threads": 256}, host={"kind": "llvm"}
    )
    with target:
        module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        module = dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())(module)
    (opencl,) = tvm.compile(module, target=target).mod.imports
    library = Path(os.environ["TVM_EFF_OPENCL_CACHE"]).with_name("compiled.so")
    tvm.compile(module, target=target).export_library(str(library))
    assert opencl.kind == "opencl"
    return tvm.runtime.load_module(str(library))


def test_float16_where_the_device_has_it(run: Run) -> None:
    run(_float16, 0)


def test_float16_where_the_device_lacks_it(run: Run) -> None:
    with pytest.raises(RuntimeError, match="Half precision floating point not supported"):
        run(_float16, 1)


def _load_bytes(content: bytes) -> None:
    loader()(content)


def test_damaged_module(run: Run) -> None:
    whole = module_bytes(TWO_SOURCE, *TWO)
    for size in range(0, len(whole) - 1, 7):
        with pytest.raises(RuntimeError, match="damaged"):
            run(_load_bytes, whole[:size])
    with pytest.raises(RuntimeError, match="format 'clbin'"):
        run(_load_bytes, struct.pack("<Q", 5) + b"clbin" + whole[10:])


def _round_trip() -> tuple[bool, str]:
    import tvm_ffi

    made = load(TWO_SOURCE, *TWO)
    assert made.kind == "opencl"
    return made.implements_function("good"), tvm_ffi.get_global_func("ffi.ModuleInspectSource")(
        made, ""
    )


def test_module_tells_its_source(run: Run) -> None:
    assert run(_round_trip) == (True, TWO_SOURCE)


def _value(source: str, number: int) -> int:
    x = on_device(np.zeros(1, "int32"), number)
    call(load(source, MadeKernel("one", ("handle",))), "one", [x])
    return int(x.numpy()[0])


@pytest.fixture
def programs(caches: dict[str, str]) -> Iterator[Path]:
    """Return the folder of cached programs, empty."""
    folder = Path(caches["TVM_EFF_OPENCL_CACHE"])
    if folder.is_dir():
        shutil.rmtree(folder)
    yield folder
    if folder.is_file():
        folder.unlink()


def _source(value: int) -> str:
    return f"__kernel void one(__global int* x) {{ x[0] = {value}; }}"


def _hash(content: bytes) -> bytes:
    value = 14695981039346656037
    for byte in content:
        value = (value ^ byte) * 1099511628211 % 2**64
    return struct.pack("<Q", value)


def _binary_start(content: bytes) -> int:
    """Return where the binary of a cached program starts: after magic, key and hash."""
    magic = content.index(b"\n") + 1
    (size,) = struct.unpack_from("<Q", content, magic)
    return int(magic + 8 + size + 8)


def _nothing(content: bytes) -> bytes:
    return b""


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _other_key(content: bytes) -> bytes:
    return content.replace(b"x[0] = 1", b"x[0] = 2")


def _not_a_binary(content: bytes) -> bytes:
    start, junk = _binary_start(content), b"no binary of any driver" * 9
    return content[: start - 8] + _hash(junk) + junk


@pytest.mark.parametrize("broken", [_nothing, _cut, _flipped, _other_key, _not_a_binary])
def test_broken_program_is_replaced(
    run: Run, number: int, programs: Path, broken: Callable[[bytes], bytes]
) -> None:
    assert run(_value, _source(1), number) == 1
    (file,) = programs.iterdir()
    whole = file.read_bytes()
    assert _hash(whole[_binary_start(whole) :]) == whole[_binary_start(whole) - 8 :][:8]
    file.write_bytes(broken(whole))
    assert file.read_bytes() != whole
    assert run(_value, _source(1), number) == 1
    (file,) = programs.iterdir()
    mended = file.read_bytes()
    assert len(mended) > len(whole) // 2
    assert mended[: _binary_start(mended) - 8] == whole[: _binary_start(whole) - 8]
    assert _hash(mended[_binary_start(mended) :]) == mended[_binary_start(mended) - 8 :][:8]


def test_cached_program_is_used(run: Run, number: int, programs: Path) -> None:
    assert run(_value, _source(1), number) == 1
    (first,) = programs.iterdir()
    assert run(_value, _source(5), number) == 5
    (second,) = set(programs.iterdir()) - {first}
    # The program of the one source under the key of the other: only a reader would be misled.
    one, five = first.read_bytes(), second.read_bytes()
    misleading = one[: _binary_start(one) - 8] + five[_binary_start(five) - 8 :]
    first.write_bytes(misleading)
    assert run(_value, _source(1), number) == 5
    assert first.read_bytes() == misleading


def test_cache_that_cannot_be_written(run: Run, programs: Path) -> None:
    programs.write_text("a file where the folder should be")
    assert run(_value, _source(1), 0) == 1
