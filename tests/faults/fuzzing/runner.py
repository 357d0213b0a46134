"""Fuzzing of one target, as somebody who waits for it sees it."""

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.edge_runtime.conftest import tiny_goldens, tiny_manifest, tiny_model
from tests.faults.fuzzing.targets import BUNDLE, CORPUS, KEY, Target, targets
from transom.bundle import write_bundle
from transom.signing import load_private_key, new_key

_MOST_BYTES = 20_000
_MOST_MB = 1024
_MOST_S = 10
_DONE = re.compile(r"Done (\d+) runs")


@dataclass(frozen=True)
class Found:
    """What fuzzing came to.

    Attributes:
        runs: Inputs that were tried.
        crash: The input that was not refused as it must be, as a file; None = there was none.
        said: What libFuzzer and Python said last.
    """

    runs: int
    crash: Path | None
    said: str


def make_material(folder: Path) -> dict[str, Target]:
    """Make what targets are made of, in an empty folder."""
    new_key(folder / KEY)
    write_bundle(
        folder / BUNDLE,
        manifest=tiny_manifest(),
        model=tiny_model().SerializeToString(),
        goldens=tiny_goldens(),
        report={},
        key=load_private_key(folder / KEY),
    )
    return targets(folder)


def fuzz(name: str, folder: Path, work: Path, *limit: str) -> Found:
    """Fuzz a target in a process of its own.

    Args:
        name: Of the target.
        folder: As `make_material` made it.
        work: Where what is found is kept: inputs that reach more lines, and those that crash.
        limit: When it is enough, as libFuzzer has it: `-runs=…`, `-max_total_time=…`.
    """
    grown = work / name
    grown.mkdir(parents=True, exist_ok=True)
    for seed in targets(folder)[name].seeds:
        (grown / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    crashes = work / f"{name}-"
    options = [
        f"-artifact_prefix={crashes}", f"-max_len={_MOST_BYTES}", f"-rss_limit_mb={_MOST_MB}",
        f"-timeout={_MOST_S}", "-print_final_stats=0", "-seed=8", *limit,
    ]  # fmt: skip
    known = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.fuzzing.engine",
            folder,
            name,
            *options,
            grown,
            *known,
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = process.stdout + process.stderr
    done = _DONE.search(said)
    found = sorted(work.glob(f"{name}-*"))
    if done is None and not found:
        raise RuntimeError(f"fuzzing of {name} ended by itself:\n{said[-3000:]}")
    return Found(int(done[1]) if done else 0, found[0] if found else None, said[-3000:])
