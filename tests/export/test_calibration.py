"""What held-out rows decide, and what they must not where a network has learnt from them."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from export.calibration import calibrate
from train.members import NAME, EnsembleFacts
from train.predictor import Said
from train.run import Run
from transom.manifest import UnknownRule


def test_a_network_that_has_learnt_from_val_keeps_what_its_run_found_without_it(
    run: Run, tmp_path: Path
) -> None:
    specs = tuple(
        msgspec.structs.replace(spec, unknown=UnknownRule(max_energy=-3.5)) for spec in run.specs
    )
    plain = replace(run, results=msgspec.structs.replace(run.results, specs=specs))
    stacked = replace(plain, folder=tmp_path / "stacked")
    shutil.copytree(run.folder, stacked.folder)
    facts = EnsembleFacts(how="stacked", members=(), weights={}, agreement={})
    (stacked.folder / NAME).write_bytes(msgspec.json.encode(facts))
    assert stacked.has_learnt_from_val

    random = np.random.default_rng(0)
    targets = np.stack([random.integers(0, 2, 40), random.integers(0, 3, 40)], axis=1)
    logits = {
        spec.name: np.float32(9.0 * np.eye(len(spec.classes)))[column]
        for spec, column in zip(specs, targets.T, strict=True)
    }
    said = Said(logits, np.zeros((40, 4), np.float32))
    fitted, kept = (calibrate(of, said, targets, None).specs for of in (plain, stacked))
    assert [spec.unknown.max_energy for spec in kept] == [-3.5, -3.5]
    assert [spec.thresholds for spec in kept] == [spec.thresholds for spec in run.specs]
    assert all(spec.unknown.max_energy != -3.5 for spec in fitted)
