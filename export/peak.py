"""The physical limit: how many 8-bit multiply-accumulates a core can do, at the very most.

References:
    Arm, Cortex-A53, -A55, -A72 and -A76 Software Optimization Guides: SMLAL makes 8 products an
    instruction, SDOT 16; the A76 starts two SDOT a cycle. Intel, Intrinsics Guide: VPDPBUSD makes
    64 products in 512 bits and 32 in 256, on two ports; TDPBUSD 16384 in 16 cycles.
"""

import platform
from pathlib import Path

import msgspec

_ARM_PARTS = {
    "0xd03": ("Cortex-A53", 8),
    "0xd05": ("Cortex-A55", 16),
    "0xd08": ("Cortex-A72", 8),
    "0xd0b": ("Cortex-A76", 32),
}
"""By `CPU part` of /proc/cpuinfo: Pi Zero 2 and Pi 3, then Pi 4, then Pi 5; products a cycle."""
_X86_FLAGS = (
    ("amx_int8", 1024),
    ("avx512_vnni", 128),
    ("avx_vnni", 64),
    ("avx2", 32),
)
"""The first flag that a processor has decides; products a cycle."""


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """What one core can do.

    Attributes:
        core: What it is, or the instructions that it has.
        macs_per_cycle: 8-bit multiply-accumulates.
        ghz: Its highest clock; where a virtual machine hides that, the clock that it states.
    """

    core: str
    macs_per_cycle: int
    ghz: float

    def least_ms(self, macs: int, threads: int = 1) -> float:
        """Return the least time that so many multiply-accumulates can take, milliseconds."""
        return macs / (self.macs_per_cycle * self.ghz * 1e9 * threads) * 1e3


def find_peak(
    *, machine: str | None = None, proc: Path = Path("/proc"), sys: Path = Path("/sys")
) -> Peak | None:
    """Return what a core of this machine can do, or None where it is not known.

    Args:
        machine: Architecture; None = of this machine.
        proc: Where the kernel shows the processor.
        sys: Where it shows the clock.
    """
    fields = _fields(proc / "cpuinfo")
    is_arm = (machine or platform.machine()) in ("aarch64", "arm64")
    core = _ARM_PARTS.get(fields.get("CPU part", "")) if is_arm else _x86(fields.get("flags", ""))
    ghz = _ghz(fields, sys)
    return (
        None if core is None or ghz is None else Peak(core=core[0], macs_per_cycle=core[1], ghz=ghz)
    )


def _x86(flags: str) -> tuple[str, int] | None:
    words = set(flags.split())
    return next(((f"x86 with {flag}", macs) for flag, macs in _X86_FLAGS if flag in words), None)


def _ghz(fields: dict[str, str], sys: Path) -> float | None:
    highest = sys / "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    if highest.is_file():
        return int(highest.read_text("ascii")) / 1e6
    return float(fields["cpu MHz"]) / 1e3 if "cpu MHz" in fields else None


def _fields(path: Path) -> dict[str, str]:
    """Return what the file says of the last core: on big.LITTLE the big ones come last."""
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text("utf-8", "replace").splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}
