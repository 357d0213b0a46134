"""What is kept and taught on this device: a `ZoneSamples` for each zone."""

from random import Random

from edge_runtime.classifier import Classifier
from edge_runtime.lessons import answer_again, guard_examples
from edge_runtime.samples import SampleCounts, SampleStore
from edge_runtime.seen import SampledZone
from edge_runtime.two_states import told_spec
from edge_runtime.zone_samples import ZoneSamples
from transom.bundle import Bundle
from transom.config import SamplesConfig, ZoneConfig


class Sampling:
    """The store of samples at work beside a bundle.

    Args:
        store: Where pictures are kept.
        config: Their bounds and pace.
        bundle: The bundle that serves.
        classifier: Of that bundle.
    """

    def __init__(
        self, store: SampleStore, config: SamplesConfig, bundle: Bundle, classifier: Classifier
    ) -> None:
        self._store = store
        self._config = config
        self._bundle = bundle
        self._classifier = classifier
        self._guard = bundle.goldens.guarding(lambda crops: classifier.classify(crops).embedding)

    def zone(self, zone: ZoneConfig) -> ZoneSamples:
        """Return what is kept of a zone, its labelled pictures answered by this bundle.

        Raises:
            ValueError: The bundle has not the task, or the task not the classes, that it needs.
            ClassifierError: The network fails on a labelled picture.
        """
        manifest = self._bundle.manifest
        told = told_spec(manifest, zone)
        classes = next(spec.classes for spec in manifest.tasks if spec.name == zone.task)
        sampled = SampledZone(
            name=zone.name,
            task=zone.task,
            classes=told.classes,
            thresholds=told.thresholds,
            model=self._bundle.digest,
            margin=manifest.input.margin,
        )
        answer_again(self._store, sampled, self._classifier, classes)
        guard = guard_examples(self._guard, sampled, classes)
        return ZoneSamples(
            sampled,
            self._store,
            guard,
            self._config,
            Random(),  # noqa: S311
            zone.contact,
        )

    def counts(self) -> SampleCounts:
        """Return what is kept."""
        return self._store.counts()
