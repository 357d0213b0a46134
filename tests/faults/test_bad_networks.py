"""Networks that die, hang, eat memory or lie while they are on trial: the one before serves on."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.replay import ClipClock
from edge_runtime.shadow import SharedLooks
from tests.edge_runtime.broker import Broker, Subscriber, wait_until
from tests.edge_runtime.conftest import TinyBundle, tiny_model
from tests.edge_runtime.updating import TOPICS, Device, Offer, rewrite, steps, wait_for_step
from tests.faults.proof import Proof
from transom.bundle import read_bundle
from transom.messages import Message
from transom.updates import Install

SERVES_AGAIN_S = 60.0
EVENT = TOPICS.event("front_door")


def wrong(tiny: TinyBundle, path: Path) -> Path:
    """Golden answers that are not the network's."""
    goldens = read_bundle(tiny.path, None).goldens
    logits = {name: value + np.float32(1.0) for name, value in goldens.logits.items()}
    return rewrite(tiny, path, sequence=2, parts={"goldens": replace(goldens, logits=logits)})


def greedy(tiny: TinyBundle, path: Path) -> Path:
    """A network that wants 1.2 GB for an answer."""
    model = tiny_model()
    graph = model.graph
    state = next(node for node in graph.node if list(node.output) == ["state"])
    state.output[0] = "state_before"
    graph.initializer.append(numpy_helper.from_array(np.array([300_000_000], np.int64), "many"))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [0.0])
    graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["many"], ["much"], value=one),
            helper.make_node("ReduceMean", ["much"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["state_before", "nothing"], ["state"]),
        ]
    )
    onnx.checker.check_model(model)
    return rewrite(tiny, path, sequence=2, parts={"model": model.SerializeToString()})


def good(tiny: TinyBundle, path: Path) -> Path:
    """Nothing is wrong with it until its process is."""
    return rewrite(tiny, path, sequence=2)


FAULTS: dict[str, tuple[Callable[[TinyBundle, Path], Path], int | None]] = {
    "SIGILL": (good, signal.SIGILL),
    "SIGSEGV": (good, signal.SIGSEGV),
    "wrong golden answers": (wrong, None),
    "1.2 GB for an answer": (greedy, None),
    "hangs": (good, signal.SIGSTOP),
}
"""By name: what is offered, and what its process meets while it runs beside the serving one."""


def trial_process() -> int:
    """Return the process in which a network is on trial; 0 = none."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    for child in (word for file in children for word in file.read_text().split()):
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"edge_runtime.trial_process" in command:
            return int(child)
    return 0


def refusal_s(
    fault: str, device: Device, offer: Offer, heard: Subscriber, tiny: TinyBundle, folder: Path
) -> float:
    """Offer a bad network; return the seconds from when it is bad until it is left."""
    make, number = FAULTS[fault]
    folder.mkdir()
    wish: Install = offer.deploy(make(tiny, folder / "new.bundle"))
    began_s = time.monotonic()
    if number is not None:
        wait_for_step(heard, "tried", wish.request)
        wait_until(lambda: device.updater.shadow_input is not None, 30.0)
        began_s = time.monotonic()
        os.kill(trial_process(), number)
        device.updater.take_looks(looks())
    wait_until(lambda: "refused" in steps(heard, wish.request), 90.0)
    return time.monotonic() - began_s


def looks() -> SharedLooks:
    crops = np.full((5, 32, 32, 3), 38, np.uint8)
    return SharedLooks(crops, (("state", "closed"),) * 5)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_fails_on_trial_is_left_and_the_one_before_serves_on(
    fault: str, tmp_path: Path, tiny_bundle: TinyBundle, proof: Proof
) -> None:
    claim = proof(10, f"a network on trial beside the serving one: {fault}", unit="networks")
    with (
        Broker(tmp_path / "broker", persistence=True) as broker,
        broker.subscriber("transom/hall-pi/#") as heard,
    ):
        device = Device(
            tmp_path, broker.config(), tiny_bundle.keys, ClipClock(), shadow_decisions=20
        )
        device.store.mkdir()
        (device.store / "mine.bundle").write_bytes(tiny_bundle.path.read_bytes())
        with device:
            for number in range(20):
                device.outbox.put(Message(EVENT, b'{"n": %d}' % number), str(number))
            offer = Offer(broker)
            took_s = refusal_s(fault, device, offer, heard, tiny_bundle, tmp_path / "new")
            for number in range(20, 40):
                device.outbox.put(Message(EVENT, b'{"n": %d}' % number), str(number))
            device.publisher.flush_events()
            wait_until(lambda: len(heard.copies(EVENT)) == 40, 30.0)
            assert not device.updater.wants_restart
        with device:
            assert device.bundle.manifest.sequence == 1
    assert took_s <= SERVES_AGAIN_S
    claim.found(
        "left after {took_s} s; the one before served all the time, 40 of 40 events came",
        took_s=took_s,
    )
