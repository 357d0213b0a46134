"""What ends the daemon's wait."""

import subprocess
import sys
import threading
import time

from edge_runtime.wake import Wake

LONG_S = 30.0


def waited_s(wake: Wake) -> float:
    began_s = time.monotonic()
    wake.wait(LONG_S)
    return time.monotonic() - began_s


def test_a_thread_ends_the_wait() -> None:
    wake = Wake()
    threading.Timer(0.05, wake.set).start()
    assert waited_s(wake) < LONG_S / 2


def test_another_process_ends_the_wait() -> None:
    wake = Wake()
    code = "import sys; from edge_runtime.wake import Wake; Wake(int(sys.argv[1])).set()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(wake.descriptor)], pass_fds=(wake.descriptor,)
    ):
        assert waited_s(wake) < LONG_S / 2


def test_what_was_said_before_the_wait_ends_it_once() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    assert waited_s(wake) < LONG_S / 2
    began_s = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - began_s >= 0.045
