"""Networks signed by mistake: each ends its trial, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.edge_runtime.updating import TinyBundle, rewrite
from tests.faults.hostile_networks import NETWORKS
from tests.faults.proof import Proof
from transom.bundle import read_bundle

_TRY = """
import json, resource, sys, time
from pathlib import Path
from edge_runtime.trial import Trial
from transom.config import ModelsConfig
from transom.errors import UpdateError

began_s = time.monotonic()
said = None
with Trial(Path(sys.argv[1]), sys.argv[2], ModelsConfig()) as trial:
    try:
        trial.run()
    except UpdateError as error:
        said = str(error)
seconds = time.monotonic() - began_s
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "said": said,
    "seconds": seconds,
    "cpu_s": used.ru_utime + used.ru_stime,
    "mb": used.ru_maxrss / 1024,
}))
"""

_START = "import time, edge_runtime.trial_process; print(time.process_time())"

FAST = (
    "weights in a file by its path",
    "weights behind a link",
    "a loop that keeps all",
    "a tensor of a gigabyte",
    "an operator of somebody else",
)
HARMLESS = ("4,096 ways through ifs", "30 ifs in each other", "200,000 nodes")
"""Those that may come to an end with the right answers, however strange."""


def tried(path: Path) -> dict[str, Any]:
    digest = read_bundle(path, None).digest
    command = [sys.executable, "-c", _TRY, str(path), digest]
    done = subprocess.run(command, check=True, capture_output=True, cwd=path.parent)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_network_signed_by_mistake_ends_its_trial_and_reads_no_file(
    tiny_bundle: TinyBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proof: Proof,
) -> None:
    claim = proof(
        18, "files of others, loops, ifs, huge shapes, foreign operators, lies about sizes",
        fast=len(FAST), full=len(NETWORKS), unit="networks",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary").write_bytes(b"\0\0\x80?")  # 1.0: a network that reads it works
    names = FAST if claim.runs == len(FAST) else tuple(NETWORKS)[: claim.runs]
    start_s = float(subprocess.check_output([sys.executable, "-c", _START]))
    worst = {"cpu_s": 0.0, "mb": 0.0}
    ended = []
    for name in names:
        model = NETWORKS[name](tmp_path / "canary")
        path = rewrite(tiny_bundle, tmp_path / "new.bundle", parts={"model": model})
        found = tried(path)
        assert found["said"] is not None or name in HARMLESS, (name, found)
        assert len(found["said"] or "") < 2000, name
        ended += [name] if found["said"] is not None else []
        worst = {key: max(most, found[key]) for key, most in worst.items()}
    claim.found(
        "{ended} ended, the others answered rightly; none read the file; at most {cpu_s} s of "
        "processor time and {mb} MB",
        ended=len(ended),
        **worst,
    )
    assert worst["cpu_s"] < max(10.0, 12.0 * start_s), start_s
    assert worst["mb"] < 700.0
