"""Does a bundle for a Mali board run on an aarch64 system, host code and all?

    python scripts/tune.py --target rk3399-mali --model squeezenet1_1
    python benchmarks/opencl_board.py dist/squeezenet1_1-rk3399-mali

What was tuned and validated are the kernels, launched by this machine's processor. Here the
very library that ships runs: on an emulated Cortex-A72, in our native RPC server, with PoCL
for aarch64 in the place of Mali's driver. Its golden inputs are run and compared with
PyTorch's outputs. Nothing is timed: processor and GPU are emulated and in software. Results
go to opencl-board.json in --output.
"""

from __future__ import annotations

import argparse
import json
import stat
import sys
from pathlib import Path
from typing import Any

import results_file
from typing_extensions import override

from tvm_eff.cli.run import run
from tvm_eff.codegen import toolchain
from tvm_eff.deploy import bundle, gpu
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.validate import validate
from tvm_eff.device import MachineIdentity, emulator_image, native_server
from tvm_eff.device.server_process import ServerProcess
from tvm_eff.device.spawned_server import SpawnedServerDevice
from tvm_eff.scratch import scratch_folder

ARCH, CPU = "aarch64", "cortex-a72"
TIMEOUT_S = 3600.0  # PoCL's compiler is emulated as well: some seconds a kernel

# What PoCL links its kernels with. The guest's calls start programs of this machine; C's
# library is in the server already, and its start files belong to programs.
LINKER = """\
#!/bin/sh
unset LD_LIBRARY_PATH
objects=""
while [ $# -gt 0 ]; do
  case "$1" in
    -o) output="$2"; shift ;;
    */crt*.o) ;;
    *.o) objects="$objects $1" ;;
  esac
  shift
done
exec {zig} ld.lld -shared -o "$output" $objects
"""


class Board(SpawnedServerDevice):
    """An emulated board whose OpenCL device is PoCL."""

    def __init__(self, work: Path) -> None:
        super().__init__(TIMEOUT_S, device_type="opencl")
        self._work = work

    @property
    @override
    def identity(self) -> MachineIdentity:
        assert self.opencl_device is not None, "the device is open"
        return MachineIdentity(f"qemu-user {ARCH}", CPU, gpu=self.opencl_device.driver)

    @property
    @override
    def where(self) -> str:
        assert self.opencl_device is not None, "the device is open"
        return f"{self.opencl_device.driver} on an emulated {CPU}"

    def _start(self) -> ServerProcess:
        root = emulator_image.guest_image(
            "root-arm64-pocl",
            ["libpocl2"],
            ARCH,
            ["usr/lib/aarch64-linux-gnu/libpocl.so.2", "usr/lib/aarch64-linux-gnu/libLLVM-15.so.1"],
            lambda folder: None,
        ).path
        # By this machine's path: PoCL asks for its files with a call that qemu does not redirect.
        library = root / "usr/lib/aarch64-linux-gnu/libpocl.so.2"
        environment = {
            "PATH": f"{_linker(self._work)}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": "/usr/lib/llvm-15/lib:/usr/lib/aarch64-linux-gnu",
            "TVM_EFF_OPENCL_LIBRARY": str(library),
            "TVM_EFF_OPENCL_CACHE": "off",
            "POCL_CACHE_DIR": str(self._work),
            "POCL_MAX_PTHREAD_COUNT": "1",
            "HOME": str(self._work),
        }
        emulator = emulator_image.emulator_command(ARCH, root)
        server = native_server.build(ARCH)
        return ServerProcess(
            lambda files: [
                *(*emulator, "-cpu", CPU, server, "--host", "127.0.0.1", "--port", "0"),
                *("--exit-on-stdin-eof", *files.options),
            ],
            environment,
        )


def main(argv: list[str] | None = None) -> int:
    """Run each bundle and write how near it comes to PyTorch."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    arguments = parser.parse_args(argv)
    run_now = results_file.begin(__file__, argv)
    bundles = [bundle.read(folder) for folder in arguments.bundle]
    with scratch_folder() as work, Board(work) as board:
        rows = []
        for each in bundles:
            rows.append(check(each, board))
            print(json.dumps(rows[-1]), flush=True)
        where = board.where
    path = arguments.output / "opencl-board.json"
    run_now.with_data({"where": where, "bundles": rows}).write(path)
    print(f"written to {path}")


def check(each: bundle.Bundle, board: Board) -> dict[str, Any]:
    """Run a bundle's golden inputs on the board and compare with PyTorch's outputs."""
    described = each.manifest
    gpu.require(described.target.opencl, board.opencl_device, each.library)
    golden = each.golden()
    case = Case(
        list(golden.inputs.values()),
        list(golden.outputs.values()),
        recorded_errors=described.validation.reference_errors,
    )
    error, *_ = validate(board, each.library, [case], described.validation.tolerance)
    return {"model": described.model, "target": described.target.name, "largest_error": error}


def _linker(folder: Path) -> Path:
    """Write the guest's linker and return the folder it is in."""
    folder = folder / "bin"
    folder.mkdir(exist_ok=True)
    linker = folder / "ld"
    linker.write_text(LINKER.format(zig=toolchain.zig()))
    linker.chmod(linker.stat().st_mode | stat.S_IXUSR)
    return folder


if __name__ == "__main__":
    sys.exit(main())
