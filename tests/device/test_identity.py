"""Machines are told apart by what they are, not by what they are called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tvm_eff.device import MachineIdentity
from tvm_eff.device.identity import identity_of, local_identity, read_local
from tvm_eff.targets.architectures import features_of_modalias
from tvm_eff.targets.detect import processor_features

XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 8
flags\t\t: fpu avx512f avx2

processor\t: 1
vendor_id\t: GenuineIntel
stepping\t: 9
"""
CPU = "/sys/devices/system/cpu"


def machine(cpuinfo: str = XEON, **files: str) -> MachineIdentity:
    known = {"/proc/cpuinfo": cpuinfo, f"{CPU}/online": "0-1\n", **files}
    return identity_of(lambda path: known.get(path, ""), "Linux x86_64", threads=2)


def test_what_linux_tells() -> None:
    found = machine(
        **{
            f"{CPU}/cpu0/cache/index0/level": "1\n",
            f"{CPU}/cpu0/cache/index0/type": "Data\n",
            f"{CPU}/cpu0/cache/index0/size": "48K\n",
            f"{CPU}/cpu0/cache/index1/level": "2\n",
            f"{CPU}/cpu0/cache/index1/type": "Unified\n",
            f"{CPU}/cpu0/cache/index1/size": "2048K\n",
        }
    )
    assert found == MachineIdentity(
        system="Linux x86_64",
        name="Intel(R) Xeon(R) Processor",
        vendor="GenuineIntel",
        family="6",
        model="143",
        stepping="8",
        features="avx2 avx512f fpu",
        caches="L1d 48K, L2 2048K",
        cores=2,
        threads=2,
    )
    assert found.words == "Intel(R) Xeon(R) Processor (6/143/8, 2 threads)"


@pytest.mark.parametrize(
    ("line", "instead", "field"),
    [
        ("stepping\t: 8", "stepping\t: 7", "stepping"),
        ("model\t\t: 143", "model\t\t: 207", "model"),
        ("avx512f avx2", "avx2", "features"),
    ],
)
def test_another_machine_of_the_same_name(line: str, instead: str, field: str) -> None:
    one, other = machine(), machine(XEON.replace(line, instead))
    assert one.name == other.name
    assert one.digest != other.digest
    assert one.differences(other) == (field,)


def test_another_number_of_threads_is_another_identity() -> None:
    assert local_identity(1).differences(local_identity(2)) == ("threads",)


def test_arm_board_without_cpuinfo_is_known_by_its_main_id_register() -> None:
    found = machine(
        "",
        **{
            f"{CPU}/cpu0/regs/identification/midr_el1": "0x00000000410fd083\n",
            "/sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.4\0",
            f"{CPU}/online": "0-3",
        },
    )
    assert (found.vendor, found.model, found.stepping) == ("0x41", "0xd08", "0x3")
    assert (found.name, found.cores) == ("Raspberry Pi 4 Model B Rev 1.4", 4)


def test_this_machine_is_described_the_same_each_time() -> None:
    assert local_identity(2) == local_identity(2)
    assert local_identity(2).cores > 0


def test_nothing_is_known_of_a_machine_without_files() -> None:
    found = identity_of(lambda path: "", "unknown")
    assert found == MachineIdentity("unknown")
    assert found.words == "unknown"
    assert found.differences(replace(found, cores=1)) == ("cores",)


@pytest.mark.parametrize(
    ("modalias", "features"),
    [
        ("cpu:type:aarch64:feature:,0000,0001,000A,0014\n", "asimd asimddp asimdhp fp"),
        ("cpu:type:x86,ven0002fam0019mod0011:feature:,001A,0125,0130\0\0", "avx2 avx512f sse2"),
        ("cpu:type:mips:feature:,0000", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_features_of_a_board_whose_proc_cannot_be_read(modalias: str, features: str) -> None:
    assert machine("", **{f"{CPU}/modalias": modalias}).features == features


def test_modalias_says_what_cpuinfo_says() -> None:
    known = features_of_modalias(read_local(f"{CPU}/modalias"))
    assert set(known) <= processor_features()
