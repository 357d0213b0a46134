"""What Transom promises, and what others promise or were measured to do, by number."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise.

    Attributes:
        number: By which a test names it.
        text: The promise, with its figures.
        peer: What comparable software does; empty = nothing to compare with.
    """

    number: int
    text: str
    peer: str = ""


PROMISES = (
    Promise(
        1,
        "No accepted event is lost by a crash or an outage; at most 15 copies a kill, all with the "
        "`event_id` of the first",
        "a local Mosquitto bridge lost 1,000 of 1,000 after `kill -9`; Telegraf's disk buffer "
        'disclaims: "not a way to guarantee data safety in the event of a crash"',
    ),
    Promise(
        2,
        "An event that the broker refuses is never counted as sent: it is set aside and told",
        "paho: `is_published()` is True for a refused message",
    ),
    Promise(
        3,
        "A full, read-only or failing disk is survived: publishing goes on, what is dropped is "
        "counted, all is well within 5 s of the disk's return",
        "SQLite with a write-ahead log cannot even delete on a full disk",
    ),
    Promise(
        4,
        "The card wears little: at most 24 KiB written an event, nothing while nothing happens",
        "rollback journal: 56 KiB an event; a Mosquitto bridge writes its whole store each time",
    ),
    Promise(
        5,
        "A camera that freezes, drips, answers nothing, sends rubbish or vanishes: `unknown` "
        "within 6 s, healed within 10 s of its return, other cameras miss no cycle",
        "OpenCV blocks 30 s; restart after: Frigate 20 s, Viseron 60 s, Motion 90 s",
    ),
    Promise(
        6,
        "Never a class from a grey, green, half or repeated picture; `unknown` within 10 s",
        "reports: frigate#27, Motion#15",
    ),
    Promise(
        7,
        "A frozen broker is noticed within two keepalives (15 s each)",
        "paho: 1.9 keepalives, 60 s each by default: two minutes",
    ),
    Promise(
        8,
        "A tampered bundle never loads, writes nothing outside its folder, and costs bounded "
        "memory and time",
        "RAUC: two fuzzers, of bundle and manifest",
    ),
    Promise(
        9,
        "A bundle's installation that is cut at any step leaves the old one or the new one, "
        "always verified",
        "Mender: 33 states in which its client is killed",
    ),
    Promise(
        10,
        "A bad network is left by itself: the one before serves within 60 s, no event is lost",
        "Greengrass: roll back is the default failure policy",
    ),
    Promise(
        11,
        "No silent downgrade: an older signed bundle is refused unless the device allows it",
        "RAUC: `min-bundle-version`",
    ),
    Promise(
        12,
        "200 swaps of the network grow memory by at most 5 MB, each with a gap of at most a frame",
        "onnxruntime without trimming: 117 to 165-195 MB after 200 reloads",
    ),
    Promise(
        13,
        "Other tools of the OpenSSF model-signing format verify our bundles, and ours theirs",
    ),
    Promise(
        14,
        "The hardened unit works: exposure at most 1.5, cameras open under it, the watchdog "
        "restarts it",
        "`systemd-analyze security`: motion 9.2, mosquitto, mender, rauc, swupdate 9.6",
    ),
    Promise(
        15,
        "A clock that jumps does no harm: no false stall, no false change, and the time says "
        "whether it is right",
        "Frigate judges stalls by the wall clock",
    ),
    Promise(
        16,
        "No secret leaves: not by log, command line, topic, outbox, bundle or report",
        "reports: frigate#1431, #3145, #5798, #6684; home-assistant/core#42904",
    ),
    Promise(
        17,
        "A fresh installation listens nowhere, keeps no picture, and speaks to broker and "
        "cameras only",
        "go2rtc listens on :1984 without a user, Frigate on :5000; motionEye: empty admin password",
    ),
    Promise(
        18,
        "A malicious network is contained: it reads no file outside, and its process ends "
        "within 10 s of processor time, or 12 times what Python takes to start on a slower board",
        "onnxruntime up to 1.23.2 reads weights from any path",
    ),
    Promise(
        19,
        "A long run is flat: memory grows by less than 1 MB an hour, descriptors stay, no "
        "watchdog is missed",
        "reports: opencv#8151, onnxruntime#26831",
    ),
    Promise(
        20,
        "An idle processor: onnxruntime's threads do not spin; at most 40 % of its default "
        "at 4 frames a second",
        "onnxruntime's default: 31.7 % of a processor, without spinning 11.5 %",
    ),
    Promise(
        21,
        "Whoever may publish to a device's commands, or writes the files that it reads, can say "
        "nonsense without end: nothing changes, no log and no memory fills",
        "Frigate GHSA-qp3h-4q62-p428: a YAML file's loader ran what it said",
    ),
    Promise(
        22,
        "The page answers nobody without the token, serves no other file, lets no other page act, "
        "and runs no script out of a name",
        "motionEye CVE-2026-55488, -55863; go2rtc GO-2024-3052 to 3055; Frigate CVE-2026-33470",
    ),
    Promise(
        23,
        "What is installed is what was looked at: locked with digests, listed, its licences known, "
        "and the same sources give the same wheel",
    ),
)

BY_NUMBER = {promise.number: promise for promise in PROMISES}
