from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from transom.session import entries_for, open_session, session_entries

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


class Refusing:
    """An onnxruntime whose exact kernels cannot run a network, as on some x86 without VNNI."""

    class FailError(Exception):
        pass

    class SessionOptions(SimpleNamespace):
        def add_session_config_entry(self, key: str, value: str) -> None:
            setattr(self, key, value)

    class RunOptions(SimpleNamespace):
        pass

    class InferenceSession:
        def __init__(self, _model: bytes, options: Any, **_: Any) -> None:
            self.is_exact = getattr(options, EXACT, "0") == "1"

        def get_inputs(self) -> list[Any]:
            shape = ["crops", 2, 2, 3]
            return [SimpleNamespace(name="image", shape=shape, type="tensor(uint8)")]

        def run(self, _names: None, blank: dict[str, Any], _options: Any) -> None:
            assert blank["image"].shape == (1, 2, 2, 3)
            if self.is_exact:
                raise Refusing.FailError

    ExecutionMode = SimpleNamespace(ORT_SEQUENTIAL=0)
    capi = SimpleNamespace(onnxruntime_pybind11_state=SimpleNamespace(Fail=FailError))


def test_a_network_that_exact_kernels_cannot_run_is_run_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transom.session.session_entries", lambda **_: {EXACT: "1"})
    assert not open_session(Refusing, b"", threads=1).is_exact
    monkeypatch.setattr(Refusing.InferenceSession, "run", lambda *_: None)
    assert open_session(Refusing, b"", threads=1).is_exact
