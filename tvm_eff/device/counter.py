"""The count of instructions an emulated board has executed, read while it runs."""

from __future__ import annotations

import functools
import hashlib
import mmap
import struct
import time
from pathlib import Path

from tvm_eff import paths
from tvm_eff.codegen import toolchain
from tvm_eff.device.emulator_image import host

_GLIBC = "2.31"
_REST_SECONDS = 0.0005
_RESTS = 1000


class Counter:
    """A count that the emulator's plugin keeps in a file which both have mapped."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._path = path

    def read(self) -> int:
        """Return how many instructions have been executed since the start."""
        (count,) = struct.unpack_from("<Q", self._memory)
        return int(count)

    def read_at_rest(self) -> int:
        """Return the count once it stands still: an answer is sent before its sender rests."""
        count = self.read()
        for _ in range(_RESTS):
            time.sleep(_REST_SECONDS)
            last, count = count, self.read()
            if count == last:
                break
        return count

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._memory.close()

    def plugin_option(self) -> str:
        """Return the value of qemu's ``-plugin`` that counts here."""
        # A comma ends qemu's value; a doubled one stands for itself.
        paths = (self._library(), self._path)
        plugin, file = (str(path).replace(",", ",,") for path in paths)
        return f"{plugin},counter={file}"

    def _library(self) -> Path:
        return plugin_library()


@functools.cache
def plugin_library(source: Path | None = None) -> Path:
    """Return the plugin, compiled for this machine if need be; `source` is that of another."""
    source = source or paths.data_folder("runtime") / "qemu_plugin" / "count.c"
    triple = host().linux.zig
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    with paths.locked_cache_entry(f"emulator/{source.stem}-{triple}-{digest}.so") as path:
        if not path.exists():
            flags = ["-O2", "-fvisibility=hidden"]
            with paths.atomic_file(path) as part:
                toolchain.compile_shared([source], part, f"{triple}.{_GLIBC}", flags=flags)
        return path
