"""What a Linux library is made of and needs, by its ELF file: https://refspecs.linuxfoundation.org."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tvm_eff.errors import BundleError, SetupError
from tvm_eff.targets import architectures

_MAGIC = b"\x7fELF"
_EXECUTABLE = 0x4  # SHF_EXECINSTR
_ALLOCATED = 0x2  # SHF_ALLOC
_GLIBC = "GLIBC_"


@dataclass(frozen=True)
class Section:
    """A piece of a library.

    Attributes
    ----------
    name
        Its name, such as ``.text``.
    bytes
        Its size in the file; 0 for what is only made when it is loaded.
    loaded
        Whether it is in memory when the library is.
    """

    name: str
    bytes: int
    loaded: bool


@dataclass(frozen=True)
class ElfFile:
    """A library's file.

    Attributes
    ----------
    architecture
        What it is for, such as ``aarch64``; empty if it is none of ours.
    sections
        Its pieces, in order.
    needed
        The libraries that the system's loader loads with it.
    glibc
        The newest version of the GNU C library whose functions it asks for; empty if none.
    code
        What is executed: pieces of memory by their addresses.
    """

    architecture: str
    sections: tuple[Section, ...]
    needed: tuple[str, ...]
    glibc: str
    code: tuple[tuple[int, bytes], ...] = field(repr=False)

    @property
    def code_bytes(self) -> int:
        """The bytes of what is executed."""
        return sum(len(each) for _, each in self.code)


def read(path: Path) -> ElfFile | None:
    """Read a library; return None if it is no ELF file, as on macOS.

    Raises
    ------
    BundleError
        It cannot be read, or is damaged.
    SetupError
        pyelftools is not installed.
    """
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError as error:
        raise SetupError(
            "pyelftools reads the library and is not installed; pip install pyelftools"
        ) from error
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            return _described(ELFFile(file), file)
    except Exception as error:  # whatever pyelftools trips over in a damaged file
        raise BundleError(
            f"{path} cannot be read as a library: {error or type(error).__name__}; build or copy "
            "the bundle again"
        ) from error


def _described(elf: Any, file: IO[bytes]) -> ElfFile:
    sections = list(elf.iter_sections())
    file.seek(0)
    return ElfFile(
        architecture=architectures.of_elf(file.read(20)) or "",
        sections=tuple(_section(each) for each in sections if each.name),
        needed=tuple(str(each.needed) for each in _dynamic(elf) if each.entry.d_tag == "DT_NEEDED"),
        glibc=_newest_glibc(elf),
        code=tuple(
            (int(each["sh_addr"]), each.data())
            for each in sections
            if each["sh_flags"] & _EXECUTABLE and each["sh_type"] == "SHT_PROGBITS"
        ),
    )


def _section(section: Any) -> Section:
    stored = 0 if section["sh_type"] == "SHT_NOBITS" else int(section["sh_size"])
    return Section(section.name, stored, bool(section["sh_flags"] & _ALLOCATED))


def _dynamic(elf: Any) -> list[Any]:
    section = elf.get_section_by_name(".dynamic")
    return [] if section is None else list(section.iter_tags())


def _newest_glibc(elf: Any) -> str:
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return ""
    names = (each.name for _, versions in section.iter_versions() for each in versions)
    found = [name.removeprefix(_GLIBC) for name in names if name.startswith(_GLIBC)]
    return max(found, key=version_key, default="")


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions such as ``2.31`` are ordered by."""
    return tuple(int(each) for each in version.split(".") if each.isdigit())
