"""Names of a relocatable object's symbols: what objcopy does, which zig does not bring.

The linker joins objects by name: two networks in one program would share the kernels that are
called alike.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tvm_eff.errors import BuildError

# Where a section's header has its offset and size: by an object's bits (System V ABI, 4).
_PLACES = {32: ("<2I", 16), 64: ("<2Q", 24)}


def prefixed(content: bytes, prefix: str, kept: str) -> bytes:
    """Return an object whose own global symbols begin with `prefix`, but for the one `kept`.

    What it does not define, such as ``memcpy``, stays as it is.

    Raises
    ------
    BuildError
        It is no object with symbols.
    """
    try:
        return _prefixed(content, prefix.encode(), kept)
    except (ELFError, struct.error) as error:
        raise BuildError(f"an object file's symbols cannot be read: {error}") from error


def _prefixed(content: bytes, prefix: bytes, kept: str) -> bytes:
    elf = ELFFile(io.BytesIO(content))
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise BuildError("an object file has no symbols; it is to be built without -s")
    changed, names = bytearray(content), bytearray(table.stringtable.data())
    for number, symbol in enumerate(table.iter_symbols()):
        if symbol.name == kept or not _is_defined_for_others(symbol):
            continue
        # A symbol begins with the place of its name.
        struct.pack_into(
            "<I", changed, table["sh_offset"] + number * table["sh_entsize"], len(names)
        )
        names += prefix + symbol.name.encode() + b"\0"
    form, place = _PLACES[elf.elfclass]
    header = elf["e_shoff"] + table["sh_link"] * elf["e_shentsize"]
    struct.pack_into(form, changed, header + place, len(changed), len(names))
    return bytes(changed + names)


def _is_defined_for_others(symbol: Any) -> bool:
    return symbol["st_info"]["bind"] != "STB_LOCAL" and symbol["st_shndx"] != "SHN_UNDEF"
