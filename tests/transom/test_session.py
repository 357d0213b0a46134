import onnxruntime
import pytest

from transom.session import entries_for, session_entries

EXACT = "session.x64quantprecision"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "asks_for_exact_kernels"),
    [
        ("x86_64", "flags\t\t: fpu avx2 fma\n", True),
        ("x86_64", "flags\t\t: fpu avx512f avx512_vnni\n", False),
        ("x86_64", "flags\t\t: fpu avx2 avx_vnni\n", False),
        ("x86_64", "", True),
        ("aarch64", "Features\t: fp asimd asimddp\n", False),
    ],
)
def test_only_x86_that_would_saturate_asks_for_exact_kernels(
    machine: str, cpuinfo: str, asks_for_exact_kernels: bool
) -> None:
    assert (EXACT in entries_for(machine, cpuinfo)) is asks_for_exact_kernels


def test_idle_threads_sleep_everywhere() -> None:
    assert entries_for("aarch64", "")["session.intra_op.allow_spinning"] == "0"


def test_onnxruntime_knows_the_entries_of_this_machine() -> None:
    options = onnxruntime.SessionOptions()
    for key, value in session_entries().items():
        options.add_session_config_entry(key, value)
        assert options.get_session_config_entry(key) == value
