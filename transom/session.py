"""How every onnxruntime session of Transom is set up, on the workstation and on the device.

Only the set-up lives here: who runs a network imports onnxruntime and hands it in.

An INT8 network can be run in either precision. Its file says where a tensor is rounded to eight
bits; onnxruntime makes integer layers of that, or is told to leave the rounding out.
"""

import platform
from pathlib import Path
from typing import Any, Literal

import numpy as np

Precision = Literal["int8", "float32"]
"""Of a network's arithmetic."""

QUIET = 3
"""Errors only: onnxruntime warns about graphics cards that no Pi has."""

_SKIPPED_IN_FLOAT32 = ("ClipQuantRewrite",)
"""Optimisers of onnxruntime that an INT8 network run in float32 must do without: a Clip that a
rounding would imply is all that cuts a value where there is no rounding."""

_X86 = ("x86_64", "AMD64", "i686")
_EXACT_KERNELS = "session.x64quantprecision"
_EXACT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")
_WITHOUT_ROUNDING = {
    "session.disable_quant_qdq": "1",
    "session.enable_quant_qdq_cleanup": "1",
}
_LEAST_GAIN = 0.05


def open_session(
    onnxruntime: Any, model: bytes, *, threads: int, without_rounding: bool = False
) -> Any:
    """Return a session as a device runs a network: alone, on the CPU, keeping little memory.

    Args:
        onnxruntime: The module.
        model: The network.
        threads: At least 1.
        without_rounding: Whether an INT8 network is to run in float32.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False  # it keeps the largest batch's memory for ever
    options.log_severity_level = QUIET
    entries = session_entries(without_rounding=without_rounding)
    for key, value in entries.items():
        options.add_session_config_entry(key, value)

    def opened() -> Any:
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(_SKIPPED_IN_FLOAT32) if without_rounding else None,
        )

    session = opened()
    if entries.get(_EXACT_KERNELS) == "1" and not _runs(onnxruntime, session):
        options.add_session_config_entry(_EXACT_KERNELS, "0")
        session = opened()
    return session


def _runs(onnxruntime: Any, session: Any) -> bool:
    """Return whether a network can be run at all.

    Where exact kernels are asked for, onnxruntime (1.32) gives weights by channel that no
    convolution takes up one zero point for all channels, which its own check then refuses.
    """
    blank = {
        one.name: np.zeros([n if isinstance(n, int) else 1 for n in one.shape], np.uint8)
        for one in session.get_inputs()
        if one.type == "tensor(uint8)"
    }
    if len(blank) < len(session.get_inputs()):
        return True  # none of ours
    quietly = onnxruntime.RunOptions()
    quietly.log_severity_level = 4
    try:
        session.run(None, blank, quietly)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return False
    return True


def session_entries(*, without_rounding: bool = False) -> dict[str, str]:
    """Return the session configuration entries, key and value, for this machine.

    Args:
        without_rounding: Whether an INT8 network is to run in float32.
    """
    entries = entries_for(platform.machine(), _cpuinfo())
    return entries | _WITHOUT_ROUNDING if without_rounding else entries


def faster(int8_ms: float, float32_ms: float) -> Precision:
    """Return in which precision a network is to run that takes so many milliseconds in each.

    Float32 holds four times as much in memory and must gain a twentieth to be worth that.

    Examples:
        >>> faster(2.0, 1.95), faster(2.0, 1.5)
        ('int8', 'float32')
    """
    return "float32" if float32_ms < (1.0 - _LEAST_GAIN) * int8_ms else "int8"


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
        entries[_EXACT_KERNELS] = "1"
    return entries


def _has_exact_products(cpuinfo: str) -> bool:
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return any(flag in flags.split() for flag in _EXACT_PRODUCTS)


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
