"""Bundles of strangers, of fuzzers and of yesterday: none is taken, none writes or costs much."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.edge_runtime.updating import TinyBundle
from tests.faults.hostile_bundles import Fuzzer, bombs, mutated, path_tricks
from tests.faults.proof import Proof
from transom.bundle import parse_bundle
from transom.errors import BundleError
from transom.signing import PublicKey, load_public_key

_MEASURE = """
import json, re, sys, time
from pathlib import Path
from transom.bundle import read_bundle
from transom.errors import BundleError
from transom.signing import load_public_key


def most_kib():
    # Not ru_maxrss: that of the process before exec counts in it.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])


keys = [load_public_key(Path(sys.argv[2]))]
before_kib = most_kib()
began_s = time.process_time()
try:
    read_bundle(Path(sys.argv[1]), keys)
    said = None
except BundleError as error:
    said = str(error)
print(json.dumps({
    "said": said,
    "mb": (most_kib() - before_kib) / 1024,
    "seconds": time.process_time() - began_s,
}))
"""


@pytest.fixture(scope="module")
def data(tiny_bundle: TinyBundle) -> bytes:
    return tiny_bundle.path.read_bytes()


@pytest.fixture(scope="module")
def trusted(tiny_bundle: TinyBundle) -> list[PublicKey]:
    return [load_public_key(path) for path in tiny_bundle.keys.glob("*.pub")]


class Writes:
    """What this process opens for writing, renames, links or makes while it is watched."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.seen.append(str(arguments[0]))
        elif event in ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.chmod"):
            self.seen.append(f"{event} {arguments}")

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False


_writes = Writes()  # a hook can never be taken out again


def is_accepted(data: bytes, trusted: list[PublicKey]) -> bool:
    """Return whether a device would take a file; any other error than a refusal is a failure."""
    try:
        parse_bundle(data, "hostile", trusted)
    except BundleError as error:
        return len(str(error)) > 1000  # a refusal that fills a log is none
    return True


def test_no_byte_of_a_bundle_can_be_changed(
    data: bytes, trusted: list[PublicKey], proof: Proof
) -> None:
    claim = proof(8, "one byte changed", fast=3_000, full=2_500_000, unit="files")
    runs = min(claim.runs, 255 * len(data))
    assert is_accepted(data, trusted)
    with _writes.watched():
        accepted = sum(is_accepted(mutated(data, case), trusted) for case in range(runs))
    claim.found(
        "{accepted} accepted, {written} written; {share} % of all that there are",
        runs=runs,
        accepted=accepted,
        written=len(_writes.seen),
        share=100.0 * runs / (255 * len(data)),
    )
    assert accepted == 0
    assert _writes.seen == []


def test_no_fuzzed_bundle_is_accepted(data: bytes, trusted: list[PublicKey], proof: Proof) -> None:
    claim = proof(
        8, "structured fuzzing: headers, members, manifest, envelope, other keys",
        fast=2_000, full=1_000_000, unit="files",
    )  # fmt: skip
    fuzzer = Fuzzer(data, seed=8)
    with _writes.watched():
        accepted = sum(is_accepted(fuzzer.next(), trusted) for _ in range(claim.runs))
    claim.found(
        "{accepted} accepted, {written} written, no error but refusals",
        accepted=accepted,
        written=len(_writes.seen),
    )
    assert accepted == 0
    assert _writes.seen == []


def test_no_path_trick_writes_anything(data: bytes, trusted: list[PublicKey], proof: Proof) -> None:
    tricks = [trick for trick in path_tricks(data) if trick != data]
    claim = proof(
        8, "members named /…, ../…, with NUL, look-alikes, twice; links; tar, gzip, bzip2, xz",
        fast=len(tricks), full=len(tricks), unit="files",
    )  # fmt: skip
    with _writes.watched():
        accepted = [i for i, trick in enumerate(tricks) if is_accepted(trick, trusted)]
    claim.found(
        "{accepted} accepted, {written} written",
        accepted=len(accepted),
        written=len(_writes.seen),
    )
    assert (accepted, _writes.seen) == ([], [])


def test_a_bomb_costs_no_more_than_its_own_size(
    data: bytes, tiny_bundle: TinyBundle, tmp_path: Path, proof: Proof
) -> None:
    claim = proof(8, "bombs of up to 60 MB, in JSON, zip and tar", fast=3, full=12, unit="files")
    (key,) = tiny_bundle.keys.glob("*.pub")
    path = tmp_path / "bomb.bundle"
    most_mb = most_s = 0.0
    for name, make in list(bombs(60, data).items())[: claim.runs]:
        path.write_bytes(make())
        measured = json.loads(
            subprocess.run(
                [sys.executable, "-c", _MEASURE, path, key], check=True, capture_output=True
            ).stdout
        )
        assert measured["said"] is not None, name
        assert len(measured["said"]) < 1000, name
        # The file is read whole, and its members are cut out of it once.
        assert measured["mb"] <= 2.2 * path.stat().st_size / 2**20 + 16, (name, measured)
        assert measured["seconds"] < 10.0, (name, measured)
        most_mb, most_s = max(most_mb, measured["mb"]), max(most_s, measured["seconds"])
    claim.found(
        "0 accepted; at most {most_mb} MB and {most_s} s of processor time",
        most_mb=most_mb,
        most_s=most_s,
    )
