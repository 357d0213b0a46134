"""Work on the files that a device must not lose, step by step, telling what is safe.

`python -m tests.faults.store_work outbox STORE` accepts, delivers and refuses events.
`python -m tests.faults.store_work again STORE` opens that store anew and accepts some more.
`python -m tests.faults.store_work models STORE KEYS NEW` installs the bundle NEW, starts with it,
keeps it, and starts again.

What happened is told on standard output by `writev`, a call that no fault is put into.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.outbox import Outbox

EVENTS = 12


def tell(line: str) -> None:
    os.writev(1, [line.encode(), b"\n"])


def work_on_outbox(path: Path) -> None:
    """Accept twelve events; deliver two of three and have each fifth refused."""
    from edge_runtime import outbox_file
    from edge_runtime.outbox import Outbox
    from transom.config import OutboxConfig
    from transom.messages import Message

    outbox_file._CHECKPOINT_PAGES = 8  # so that few events make many
    outbox = Outbox(path, OutboxConfig())
    for number in range(EVENTS):
        tell(f"offer {number}")
        message = Message(f"transom/pi/zone_{number}/event", b"x" * 500)
        outbox.put(message, str(number), {"zone/door": str(number).encode()})
        tell(f"accept {number}")
        entry = outbox.pending(1)[0]
        if number % 5 == 4:
            tell(f"ending {entry.event_id}")
            outbox.refuse(entry.id, "not authorised")
            tell(f"ended {entry.event_id}")
        elif number % 3:
            tell(f"ending {entry.event_id}")
            outbox.done(entry.id)
            tell(f"ended {entry.event_id}")
    tell_and_close(outbox)


def work_again(path: Path) -> None:
    """Open a store in which events wait, and accept further ones."""
    from edge_runtime import outbox as of_outbox
    from transom.config import OutboxConfig
    from transom.messages import Message

    of_outbox._UNREAD_S = of_outbox._OPEN_AGAIN_S = 0.0  # a minute of trying, in no time
    outbox = of_outbox.Outbox(path, OutboxConfig())
    for number in range(EVENTS, EVENTS + 4):
        tell(f"offer {number}")
        outbox.put(Message(f"transom/pi/zone_{number}/event", b"y" * 500), str(number))
        tell(f"accept {number}")
    tell_and_close(outbox)


def tell_and_close(outbox: "Outbox") -> None:
    """Say what an outbox holds, and close it."""
    outbox.settle()
    counts = outbox.counts()
    tell(f"counts {counts.queued} {counts.held} {counts.dropped} {counts.refused}")
    tell("pending " + " ".join(entry.event_id for entry in outbox.pending(100)))
    outbox.close()
    tell("closed")


def work_on_models(store: Path, keys: Path, new: Path) -> None:
    """Fetch a bundle as a download does, install it, start, keep it, start again."""
    from edge_runtime.download import PartFile
    from edge_runtime.handover import Handover
    from edge_runtime.ledger import LedgerFile
    from transom.bundle import Bundle, read_bundle
    from transom.config import ModelsConfig
    from transom.updates import Install

    class Reports:
        def step(self, *told: object) -> None:
            tell(f"step {told[0]}")

    class Started(Handover):
        bundle: Bundle

    def start(config: ModelsConfig) -> Started:
        handover = Started(config, Reports(), LedgerFile(store), "")  # type: ignore[arg-type]
        handover.bundle = handover.begin()
        tell(f"serves {handover.bundle.manifest.name} {handover.bundle.manifest.sequence}")
        return handover

    config = ModelsConfig(store=str(store), trusted_keys=str(keys))
    bundle = read_bundle(new, None)
    wish = Install(
        request="wish",
        name=bundle.manifest.name,
        sequence=bundle.manifest.sequence,
        digest=bundle.digest,
        size_bytes=new.stat().st_size,
    )
    handover = start(config)
    if handover.bundle.digest != wish.digest:
        try:
            part = PartFile(store / f"{wish.digest}.part", wish.size_bytes)
            data = new.read_bytes()[part.have_bytes :]
            for first in range(0, len(data), 65536):
                part.append(data[first : first + 65536])
            part.sync()
            part.close()
            handover.install(part.path, wish, handover.bundle.digest)
            tell("installed")
        except OSError as error:  # as the updater refuses it
            tell(f"refused {error}")
    handover.end()
    handover = start(config)
    try:
        handover.commit()
        tell("committed")
    except OSError as error:  # as the updater tries again later
        tell(f"not committed {error}")
    handover.end()
    start(config).end()
    tell("ended")


if __name__ == "__main__":
    kind, *paths = sys.argv[1:]
    works = {"outbox": work_on_outbox, "again": work_again, "models": work_on_models}
    works[kind](*map(Path, paths))
