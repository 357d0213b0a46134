"""A bundle's way up to the hand-over: fetched, verified, tried by itself, run in the shadow."""

from collections.abc import Callable
from pathlib import Path

from edge_runtime.admission import Admission
from edge_runtime.download import Exchange, PartFile, fetch_chunks, part_path
from edge_runtime.precision import PrecisionFile
from edge_runtime.shadow import Shadow, SharedLooks
from edge_runtime.trial import Trial
from edge_runtime.update_inbox import UpdateInbox
from edge_runtime.update_reports import Measured, UpdateReports
from transom.bundle import Bundle
from transom.config import Config, UpdatesConfig
from transom.errors import UpdateError
from transom.manifest import InputSpec, Manifest
from transom.updates import Install, Step

_FETCHED, _TRIED, _RUN = 60.0, 70.0, 98.0
"""How far an update is, in per cent: the file is there, its trial is passed, its shadow has run."""

Tell = Callable[[Step, Install, Measured], None]


class UnfitError(UpdateError):
    """The bundle itself is at fault, on this device: another try would end the same way."""


class Staging:
    """Brings a bundle that is let in to where it could serve.

    Args:
        config: The device's.
        terms: Its `updates`.
        exchange: The broker.
        admission: Verifies what was fetched.
        inbox: Where chunks and looks come. What it raises ends the way, and is passed on.
        reports: Shows how far a bundle is.
        serving: Of the bundle that serves.
        precisions: Takes what the trial has measured.

    Attributes:
        shadow_input: What the network in trial wants to see of the daemon's looks; None = nothing.
    """

    def __init__(
        self,
        config: Config,
        terms: UpdatesConfig,
        exchange: Exchange,
        admission: Admission,
        inbox: UpdateInbox,
        reports: UpdateReports,
        serving: Manifest,
        precisions: PrecisionFile,
    ) -> None:
        self._config = config
        self._terms = terms
        self._exchange = exchange
        self._admission = admission
        self._inbox = inbox
        self._reports = reports
        self._serving = serving
        self._precisions = precisions
        self._store = Path(config.models.store)
        self.shadow_input: InputSpec | None = None

    def stage(self, wish: Install, tell: Tell) -> Path:
        """Return the file of a bundle that may be handed over: complete, synced, in the store.

        Args:
            wish: The bundle.
            tell: Called with each step that is done.

        Raises:
            UnfitError: Its network fails here, or contradicts the one that serves.
            UpdateError: It cannot be fetched, or is not what was announced.
            BundleError: It is not a bundle that a trusted key has signed.
            OSError: The store cannot be written.
        """
        part = self._fetch(wish)
        bundle = self._admission.verify(wish, part.path)
        tell("verified", wish, Measured())
        self._reports.state(self._serving, wish, "being tried", int(_FETCHED))
        try:
            shadow = self._try(wish, part, bundle, tell)
        except UpdateError as error:
            part.path.unlink()
            raise UnfitError(str(error)) from error
        measured = Measured(decisions=shadow.decisions, agreement=shadow.agreement)
        tell("shadow", wish, measured)
        return part.path

    def _fetch(self, wish: Install) -> PartFile:
        part = PartFile(part_path(self._store, wish), wish.size_bytes)
        try:
            is_resumed = part.have_bytes > 0
            self._complete(wish, part)
            if is_resumed and part.digest() != wish.digest:  # a power cut can leave holes
                part.restart()
                self._complete(wish, part)
        finally:
            part.close()
        return part

    def _complete(self, wish: Install, part: PartFile) -> None:
        show = self._progress(wish, "being fetched")

        def progress() -> None:
            show(_FETCHED * part.have_bytes / wish.size_bytes)

        progress()
        if wish.url is None:
            fetch_chunks(
                wish,
                part,
                self._exchange,
                self._config.mqtt.prefix,
                self._inbox.put_aside,
                self._inbox.next_message,
                progress,
            )
        else:
            from edge_runtime.download_url import fetch_url  # http costs memory; few need it

            fetch_url(wish, part, self._terms, self._inbox.next_message, progress)
        part.sync()

    def _try(self, wish: Install, part: PartFile, bundle: Bundle, tell: Tell) -> Shadow:
        with Trial(part.path, wish.digest, self._config.models) as trial:
            tried = trial.run()
            if tried.measured is not None:
                self._precisions.write(wish.digest, tried.measured)
            measured = Measured(inference_ms=tried.inference_ms, chosen=tried.chosen)
            tell("tried", wish, measured)
            shadow = self._watch_shadow(wish, trial, bundle.manifest.input)
        shadow.check(self._terms.least_agreement)
        return shadow

    def _watch_shadow(self, wish: Install, trial: Trial, wanted: InputSpec) -> Shadow:
        shadow = Shadow(trial, self._terms.shadow_decisions, self._terms.shadow_s)
        show = self._progress(wish, "runs beside the serving one")

        def next_looks(seconds: float) -> SharedLooks | None:
            show(_TRIED + (_RUN - _TRIED) * shadow.progress)
            return self._inbox.next_looks(seconds)

        self.shadow_input = wanted
        try:
            shadow.watch(next_looks)
        finally:
            self.shadow_input = None
        return shadow

    def _progress(self, wish: Install, summary: str) -> Callable[[float], None]:
        """Return what shows how far a wish is, in per cent, once for each five of them."""
        shown = -1

        def show(percent: float) -> None:
            nonlocal shown
            if int(percent) // 5 != shown // 5:  # a message for each chunk would be as many again
                shown = int(percent)
                self._reports.state(self._serving, wish, summary, shown)

        return show
