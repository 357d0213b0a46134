"""A step of measurements: what a bundle of a run would say of itself, with every class believed."""

from train.run import Run
from transom.manifest import Manifest, TaskSpec
from transom.session import Precision


def trial_manifest(run: Run, precision: Precision) -> Manifest:
    """Return the manifest of a network of a run, to ask it for logits."""
    return Manifest(
        name="trial",
        sequence=1,
        created="2026-01-01T00:00:00Z",
        input=run.input,
        tasks=tuple(
            TaskSpec(name=t.name, classes=t.classes, thresholds=(0.0,) * len(t.classes))
            for t in run.tasks
        ),
        embedding=run.network().embedding_size,
        precision=precision,
        minimum_runtime="0.1.0",
    )
