"""What is known of processor architectures: one table for all tools."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Platform:
    """One platform in the words of LLVM's, zig's and qemu's users."""

    zig: str
    emulator_cpus: tuple[str, ...] = ()

    @property
    def arch(self) -> str:
        """The processor architecture, as zig and qemu call it."""
        return self.zig.partition("-")[0]


# By LLVM's triple: LLVM crashes on a triple that it does not know. The emulated
# processors are those of qemu-user 7.2; later ones have more, no fewer.
PLATFORMS = {
    "aarch64-linux-gnu": Platform(
        "aarch64-linux-gnu",
        (
            *("cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76"),
            *("neoverse-n1", "a64fx", "max"),
        ),
    ),
    "armv7l-linux-gnueabihf": Platform(
        "arm-linux-gnueabihf", ("cortex-a7", "cortex-a8", "cortex-a9", "cortex-a15", "max")
    ),
    "x86_64-linux-gnu": Platform("x86_64-linux-gnu"),
    "aarch64-apple-darwin": Platform("aarch64-macos"),
}
