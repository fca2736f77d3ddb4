"""Debian packages, fetched with apt and unpacked into a folder without root.

apt runs with a state of its own, so the system's package database and sources
are neither needed nor touched; the system's proxy settings are kept. apt checks
every signature against Debian's archive keys.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_eff.errors import SetupError

_KEYRING = Path("usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCES = (
    "http://deb.debian.org/debian {suite} main",
    "http://deb.debian.org/debian-security {suite}-security main",
)
_CONFIGURATION = """
#clear APT::Architectures;
#clear APT::Update;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""
_OWN_SOURCES = """
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""


@dataclass(frozen=True)
class Package:
    """A package that was unpacked."""

    name: str
    version: str
    architecture: str
    sha256: str


def unpack(
    names: Sequence[str], architecture: str, suite: str, target: Path, work: Path
) -> list[Package]:
    """Fetch packages with all they depend on, and unpack them.

    Parameters
    ----------
    names
        The packages.
    architecture
        Debian's name of the architecture, such as ``arm64``.
    suite
        The release, such as ``bookworm``.
    target
        The folder to unpack into.
    work
        An empty folder for apt's own files.

    Raises
    ------
    SetupError
        apt or dpkg is missing, the network is, or a signature is wrong.
    """
    _need_tools()
    work.mkdir(parents=True)
    keyring = _keyring(work / "keyring")
    apt = _Apt(work / "apt", architecture)
    sources = [f"deb [signed-by={keyring}] {source.format(suite=suite)}" for source in _SOURCES]
    apt.use_sources(sources)
    try:
        apt.run("update")
    except SetupError:
        # Mirrors of the security archive are out of step at times; the release itself,
        # signed just the same, has all the packages.
        apt.use_sources(sources[:1])
        apt.run("update")
    apt.run("install", "--download-only", "--yes", "--no-install-recommends", *names)
    archives = sorted((work / "apt" / "cache" / "archives").glob("*.deb"))
    return [_unpack_one(archive, target) for archive in archives]


class _Apt:
    def __init__(self, folder: Path, architecture: str) -> None:
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()
        self._folder = folder
        self._configuration = folder / "apt.conf"
        self._settings = _CONFIGURATION.format(folder=folder, architecture=architecture)
        self._configuration.write_text(self._settings)

    def use_sources(self, lines: Sequence[str]) -> None:
        (self._folder / "sources.list").write_text("\n".join(lines) + "\n")
        self._configuration.write_text(self._settings + _OWN_SOURCES.format(folder=self._folder))

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["apt-get", "-c", str(self._configuration), *arguments],
            capture_output=True,
            text=True,
            cwd=self._folder,
            check=False,
        )
        if done.returncode != 0:
            told = [t for t in done.stderr.splitlines() if t.startswith(("E:", "W:"))]
            raise SetupError(
                "cannot fetch Debian packages for the emulated board; check the network (and "
                "the proxy, if there is one, in /etc/apt/apt.conf or $http_proxy) and try "
                "again. apt-get said:\n" + "\n".join(told or [done.stderr.strip()])[-1500:]
            )


def _need_tools() -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise SetupError(
            f"the emulated board is made with {' and '.join(missing)}, which this system lacks; "
            "Debian and Ubuntu have both, elsewhere install the packages 'apt' and 'dpkg', or "
            "measure on a real board with --rpc HOST:PORT"
        )


def _keyring(folder: Path) -> Path:
    """Return Debian's archive keys: the system's, or those its distribution signs."""
    installed = "/" / _KEYRING
    if installed.is_file():
        return installed
    apt = _Apt(folder, _native_architecture())
    package = "debian-archive-keyring"
    try:
        apt.run("update")
        apt.run("download", package)
    except SetupError as error:
        raise SetupError(
            "Debian's archive keys are missing, and they could not be fetched; run: "
            f"sudo apt-get update && sudo apt-get install -y {package}\n{error}"
        ) from error
    for archive in folder.glob("*.deb"):
        _unpack_one(archive, folder)
    return folder / _KEYRING


def _native_architecture() -> str:
    return _output("dpkg", "--print-architecture")


def _unpack_one(archive: Path, target: Path) -> Package:
    target.mkdir(parents=True, exist_ok=True)
    _output("dpkg-deb", "--extract", str(archive), str(target))

    def field(name: str) -> str:
        return _output("dpkg-deb", "--field", str(archive), name)

    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Package(field("Package"), field("Version"), field("Architecture"), digest)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout.strip()
