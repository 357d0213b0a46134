"""How every onnxruntime session of Transom is set up, on the workstation and on the device.

Only the settings live here: who runs a network imports onnxruntime and passes them on.
"""

import platform
from pathlib import Path

_X86 = ("x86_64", "AMD64", "i686")
_EXACT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")


def session_entries() -> dict[str, str]:
    """Return the session configuration entries, key and value, for this machine."""
    return entries_for(platform.machine(), _cpuinfo())


def entries_for(machine: str, cpuinfo: str) -> dict[str, str]:
    """Return the entries for a machine of this architecture and with this /proc/cpuinfo.

    - Threads of an idle session sleep instead of spinning: a camera classifies a few times a
      second, and a spinning pool would burn the cores that decode video.
    - x86 without VNNI adds pairs of 8-bit products in 16 bits, which saturates: there the slower
      exact kernels are asked for, so that accuracy measured here is the accuracy on a Pi. With
      VNNI the products are exact anyway, and asking would only double the time.
    """
    entries = {"session.intra_op.allow_spinning": "0"}
    if machine in _X86 and not _has_exact_products(cpuinfo):
        entries["session.x64quantprecision"] = "1"
    return entries


def _has_exact_products(cpuinfo: str) -> bool:
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return any(flag in flags.split() for flag in _EXACT_PRODUCTS)


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
