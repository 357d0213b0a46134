"""A device that accepts events as fast as its disk takes them, and can be killed a thousand times.

`python -m tests.faults.event_source HOST PORT STORE KEEPALIVE` keeps everything imported and, at
each `start FIRST` on standard input, forks a process with the daemon's own outbox and publisher,
which offers events from the number FIRST on. `kill` kills that process. On standard output, in
order: `offer N` before an event is given to the outbox, `accept N` when it is safe, `killed` at
last, and `counts QUEUED DROPPED REFUSED` whenever the process has sent all there is.
"""

import os
import signal
import sys
import time
from pathlib import Path

from edge_runtime.clock import Clock
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import Outbox
from transom.config import MqttConfig, OutboxConfig
from transom.messages import Message, Topics

TOPICS = Topics("transom", "hall-pi")
REFUSED_EACH = 40
"""Each so many, an event is of a zone whose topic the broker refuses."""
MAX_WAITING = 200
"""Events that wait for the broker before no more are offered, so that none is dropped."""


def topic_of(number: int) -> str:
    return TOPICS.event("refused_door" if number % REFUSED_EACH == 7 else "front_door")


def work(host: str, port: int, store: Path, keepalive_s: int, first: int) -> None:
    """Accept events for ever; with a negative number, only send what waits."""
    outbox = Outbox(store / "outbox.sqlite3", OutboxConfig())
    config = MqttConfig(host=host, port=port, tls=False, keepalive_s=keepalive_s)
    publisher = Publisher(config, TOPICS, outbox, secret=None, clock=Clock())
    publisher.start()
    number = first
    while True:
        counts = outbox.counts()
        if first < 0 or counts.queued >= MAX_WAITING:
            if counts.queued == 0:
                say(f"counts {counts.queued} {counts.dropped} {counts.refused}")
            time.sleep(0.02 if first < 0 else 0.002)
            continue
        say(f"offer {number}")
        message = Message(topic_of(number), b'{"event_id": "%d"}' % number)
        outbox.put(message, str(number))
        say(f"accept {number}")
        publisher.flush_events()
        number += 1


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    host, port, store, keepalive_s = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    child = 0
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "start":
            child = os.fork()
            if child == 0:
                work(host, port, store, int(keepalive_s), int(number))
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            child = 0
            say("killed")
    if child:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
