"""The device's side of a deployment: what is desired comes to serve, or is refused with a reason.

    desired -> download -> verify -> trial in a child process -> shadow -> hand over -> restart
            -> probation -> commit

A thread of its own does this, one wish at a time; the daemon's loop and the connection's thread
only put things into its inbox. Nothing of a wish but its half-fetched file outlives the process
before the hand-over: the broker delivers it again, and the steps up to there are repeated.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.admission import Admission
from edge_runtime.camera_watch import Look
from edge_runtime.classifier import Answers
from edge_runtime.clock import Clock
from edge_runtime.complaints import Complaints
from edge_runtime.download import Exchange, PartFile, clear_parts, fetch_chunks
from edge_runtime.handover import Handover
from edge_runtime.keyring import Keyring
from edge_runtime.link import Received
from edge_runtime.memory import give_back_memory
from edge_runtime.models import serving_bundle
from edge_runtime.precision import Opened, PrecisionFile, open_classifier
from edge_runtime.probation import Probation, Verdict
from edge_runtime.shadow import Shadow, SharedLooks, share
from edge_runtime.trial import Trial
from edge_runtime.update_reports import Measured, UpdateReports
from transom.bundle import Bundle
from transom.config import Config
from transom.errors import (
    BundleError,
    ClassifierError,
    MessageError,
    SignatureError,
    UpdateError,
)
from transom.manifest import InputSpec
from transom.messages import Topics
from transom.updates import FINAL, Desired, Install, Rollback, Step, read_desired

_log = logging.getLogger(__name__)

_INBOX = 64
"""Things that may wait; more than a download's window and what an honest broker sends at once."""

_WAITING_LOOKS = 4
"""Looks of the shadow are dropped beyond: a few crops a zone each, and more would only age."""

_JOIN_S = 1.0
_BETWEEN_REFUSALS_S = 1.0
"""The newest of the wishes that come in this time is answered, the others were taken back."""

_PART_S = 7 * 86400.0
"""A half-fetched bundle that nobody has gone on with for so long is left for good."""

_FETCHED, _TRIED = 60.0, 70.0
"""How far an update is, in per cent, when the file is there and when its trial is passed."""


class _Stopped(Exception):  # noqa: N818 - no error
    """The daemon ends."""


class _Superseded(Exception):  # noqa: N818 - no error
    """Something else is desired, or nothing any more."""


class _UnfitError(UpdateError):
    """The bundle itself is at fault, on this device: another try would end the same way."""


_STOP = object()
_Thing = Received | SharedLooks | Verdict | object


class Updater:
    """Carries out what is desired.

    Args:
        config: The device's; `updates` is set.
        topics: The device's.
        exchange: The broker.
        handover: What serves, over restarts.
        reports: Told of every step.
        serving: The bundle that serves.
        clock: For the time on probation.

    Attributes:
        shadow_input: What the network in trial wants to see of the daemon's looks; None = nothing.
        wants_restart: Whether the daemon must start anew: another bundle serves from then on.
        successor: That bundle, its network at work already; None = it does not open.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        exchange: Exchange,
        handover: Handover,
        reports: UpdateReports,
        serving: Bundle,
        clock: Clock,
    ) -> None:
        if config.updates is None:
            raise ValueError("config.updates must be set")
        self._config = config
        self._terms = config.updates
        self._topics = topics
        self._exchange = exchange
        self._handover = handover
        self._reports = reports
        self._serving, self._digest = serving.manifest, serving.digest
        self._admission = Admission(config, self._terms, handover, serving)
        self._keyring = Keyring(config.models)
        self._clock = clock
        self._store = Path(config.models.store)
        self._complaints = Complaints(_log)
        self._precisions = PrecisionFile(
            Path(config.state_directory), threads=config.models.threads
        )
        self._inbox: queue.Queue[_Thing] = queue.Queue(_INBOX)
        self._wish: Desired | None = None  # what is being carried out
        self._next: Desired | None = None  # what comes after it
        self._refused_s = -_BETWEEN_REFUSALS_S
        self._step: Step = "accepted"
        self._is_asked = False
        self.shadow_input: InputSpec | None = None
        self._probation = Probation(self._terms.healthy_s, clock.monotonic_s())
        self.wants_restart = False
        self.successor: Opened | None = None
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    # ---------------------------------------------------------------- for the daemon's thread

    def start(self) -> None:
        """Say what serves, and listen to what is desired."""
        probation = self._handover.ledger.probation
        if probation is not None:
            self._reports.step("started", probation)
        self._reports.state(self._serving, probation, percent=None if probation is None else 99)
        clear_parts(self._store, unused_s=_PART_S)
        self._thread.start()
        if self._keyring.may_change:
            self._show_keys()
            self._exchange.listen(self._topics.model_keys, self._put_aside)
        self._exchange.listen(self._topics.model_desired, self._put_aside)
        if self._terms.install == "when_asked":
            self._exchange.listen(self._topics.model_install, self._put_aside)

    def stop(self) -> None:
        """End the thread; what it does is taken up again after the next start."""
        try:
            self._inbox.put(_STOP, timeout=_JOIN_S)
        except queue.Full:
            return  # it is stuck, and ends with the process
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def looked(self, looks: Sequence[Look], answers: Answers) -> None:
        """Take in what the serving network has just judged; never waits."""
        wanted = self.shadow_input
        if wanted is not None:
            self.take_looks(share(looks, answers, self._serving, wanted))

    def take_looks(self, looks: SharedLooks) -> None:
        """Take in looks for the network in trial; dropped where it does not keep up."""
        if self._inbox.qsize() < _WAITING_LOOKS:
            self._put_aside(looks)

    def note_health(self, *, is_well: bool) -> None:
        """Take in whether all cameras are accounted for and the daemon gets on; once a second."""
        if not self._handover.ledger.starts:
            return
        verdict = self._probation.look(self._clock.monotonic_s(), is_well=is_well)
        if verdict is not None and not self._offer(verdict):
            self._probation.take_back()

    # ---------------------------------------------------------------- the inbox

    def _put_aside(self, thing: _Thing) -> None:
        if not self._offer(thing):
            _log.debug("update inbox is full; dropped what came")

    def _offer(self, thing: _Thing) -> bool:
        """Put a thing into the inbox; return whether there was room."""
        try:
            self._inbox.put_nowait(thing)
        except queue.Full:
            return False
        return True

    def _wait(self, seconds: float | None) -> _Thing | None:
        """Return the next thing that the current step may want; None = nothing within the time.

        Raises:
            _Stopped: The daemon ends.
            _Superseded: What is being carried out is no longer what is desired.
        """
        try:
            thing = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return None
        if thing is _STOP:
            raise _Stopped
        if isinstance(thing, Verdict):
            self._judge(thing)
        elif isinstance(thing, Received) and thing.topic == self._topics.model_desired:
            self._meet_desired(thing)
        elif isinstance(thing, Received) and thing.topic == self._topics.model_install:
            # A retained command would be carried out at every reconnect.
            self._is_asked |= not thing.retain
        elif isinstance(thing, Received) and thing.topic == self._topics.model_keys:
            self._meet_keys(thing)
        return thing

    def _next_message(self, seconds: float) -> Received | None:
        thing = self._wait(seconds) if seconds else self._peek()
        return thing if isinstance(thing, Received) else None

    def _peek(self) -> _Thing | None:
        return None if self._inbox.empty() else self._wait(None)

    def _next_looks(self, seconds: float) -> SharedLooks | None:
        thing = self._wait(seconds)
        return thing if isinstance(thing, SharedLooks) else None

    def _meet_desired(self, received: Received) -> None:
        try:
            wish = read_desired(received.payload, received.topic)
        except MessageError as error:
            self._complain("what is desired cannot be read", error)
            return
        current = self._wish
        if current is not None and wish is not None and _is_same(wish, current):
            if wish.request != current.request:  # asked again, by somebody who lost sight of it
                self._wish = wish
                self._reports.step(self._step, wish)
            return
        self._next = wish
        if current is not None:
            self._tell("withdrawn", current, "something else is desired" if wish else "")
            self._reports.state(self._serving)
            raise _Superseded

    def _meet_keys(self, received: Received) -> None:
        """Follow what is said of the keys; a bundle under way is verified by the new ones."""
        if not received.payload:
            return
        try:
            self._keyring.take(received.payload, received.topic)
        except (SignatureError, MessageError, OSError) as error:
            self._complaints.say(
                "keys are not replaced", received.topic, error, self._clock.monotonic_s()
            )
            self._show_keys(str(error))
        else:
            self._show_keys()

    def _show_keys(self, refused: str = "") -> None:
        try:
            trusted = self._keyring.trusted()
        except SignatureError as error:
            trusted, refused = (), refused or str(error)
        self._reports.keys(self._keyring.sequence(), trusted, refused)

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while not self.wants_restart:
                while (pause_s := self._pause_s()) > 0.0 or self._next is None:
                    self._wait(pause_s or None)
                wish, self._next = self._next, None
                self._take_up(wish)
        except _Stopped:
            return

    def _pause_s(self) -> float:
        """Return how long to wait after a refusal: each is kept on the card until it is heard."""
        return max(self._refused_s + _BETWEEN_REFUSALS_S - time.monotonic(), 0.0)

    def _take_up(self, wish: Desired) -> None:
        ledger = self._handover.ledger
        if wish.request == ledger.answered:
            return  # delivered once more
        self._wish = wish
        try:
            while self._handover.ledger.probation is not None and not self._is_on_probation(wish):
                self._wait(None)
            self._carry_out(wish)
        except _Superseded:
            if self._next is None:
                clear_parts(self._store)  # nobody wants the half of it any more
        except (UpdateError, BundleError) as error:
            self._refuse(error)
        except OSError as error:
            self._refuse(UpdateError(f"{self._store}: {error.strerror or error}"))
        finally:
            self._wish = None
            self.shadow_input = None

    def _is_on_probation(self, wish: Desired) -> bool:
        probation = self._handover.ledger.probation
        return probation is not None and _is_same(wish, probation)

    def _carry_out(self, wish: Desired) -> None:
        if isinstance(wish, Rollback):
            self._go_back(wish)
        elif wish.digest == self._digest:
            self._answer_for_serving(wish)
        else:
            self._admission.check_offer(wish)
            self._tell("accepted", wish)
            self._await_consent(wish)
            part = self._fetch(wish)
            bundle = self._admission.verify(wish, part.path)
            self._tell("verified", wish)
            self._try(wish, part, bundle)

    def _answer_for_serving(self, wish: Install) -> None:
        probation = self._handover.ledger.probation
        if probation is not None and probation.request != wish.request:
            self._handover.remember(wish=wish)
            self._tell("started", wish)
        elif probation is None:
            self._finish("committed", wish)
            self._reports.state(self._serving)

    def _go_back(self, wish: Rollback) -> None:
        if (wish.name, wish.sequence) != (self._serving.name, self._serving.sequence):
            raise UpdateError(
                f"serves {self._serving.name} {self._serving.sequence}, not {wish.name} "
                f"{wish.sequence}, which is to be left"
            )
        self._handover.remember(answered=wish.request)
        if not self._handover.roll_back("asked to go back", wish):
            raise UpdateError("has no bundle from before to go back to")
        self._restart()

    def _await_consent(self, wish: Install) -> None:
        if self._terms.install == "at_once":
            return
        self._is_asked = False
        self._reports.state(self._serving, wish, "waits for somebody to start it")
        self._tell("waiting", wish)
        while not self._is_asked:
            self._wait(None)

    def _fetch(self, wish: Install) -> PartFile:
        path = self._store / f"{wish.digest}.part"
        clear_parts(self._store, keep=path)
        part = PartFile(path, wish.size_bytes)
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
        shown = -1

        def progress() -> None:
            nonlocal shown
            percent = int(_FETCHED * part.have_bytes / wish.size_bytes)
            if percent // 5 != shown // 5:  # a message for each chunk would be as many again
                shown = percent
                self._reports.state(self._serving, wish, "being fetched", percent)

        progress()
        if wish.url is None:
            prefix = self._config.mqtt.prefix
            fetch_chunks(
                wish, part, self._exchange, prefix, self._put_aside, self._next_message, progress
            )
        else:
            from edge_runtime.download_url import fetch_url  # http costs memory; few need it

            fetch_url(wish, part, self._terms, self._next_message, progress)
        part.sync()

    def _try(self, wish: Install, part: PartFile, bundle: Bundle) -> None:
        self._reports.state(self._serving, wish, "being tried", int(_FETCHED))
        try:
            with Trial(part.path, wish.digest, self._config.models) as trial:
                tried = trial.run()
                if tried.measured is not None:
                    self._precisions.write(wish.digest, tried.measured)
                measured = Measured(inference_ms=tried.inference_ms, chosen=tried.chosen)
                self._tell("tried", wish, measured=measured)
                shadow = self._watch_shadow(wish, trial, bundle.manifest.input)
            shadow.check(self._terms.least_agreement)
        except UpdateError as error:
            part.path.unlink()
            raise _UnfitError(str(error)) from error
        if isinstance(self._wish, Install):
            wish = self._wish  # asked for once more meanwhile, under another name
        measured = Measured(decisions=shadow.decisions, agreement=shadow.agreement)
        self._tell("shadow", wish, measured=measured)
        self._handover.install(part.path, wish, self._digest)
        self._restart()

    def _watch_shadow(self, wish: Install, trial: Trial, wanted: InputSpec) -> Shadow:
        shadow = Shadow(trial, self._terms.shadow_decisions, self._terms.shadow_s)
        shown = -1

        def next_looks(seconds: float) -> SharedLooks | None:
            nonlocal shown
            percent = int(_TRIED + (98.0 - _TRIED) * shadow.progress)
            if percent // 5 != shown // 5:
                shown = percent
                self._reports.state(self._serving, wish, "runs beside the serving one", percent)
            return self._next_looks(seconds)

        self.shadow_input = wanted
        try:
            shadow.watch(next_looks)
        finally:
            self.shadow_input = None
        return shadow

    # ---------------------------------------------------------------- how it ends

    def _judge(self, verdict: Verdict) -> None:
        """Keep the bundle on probation, or go back to the one before; later, if the disk fails."""
        try:
            self._carry_out_verdict(verdict)
        except OSError as error:
            _log.warning("verdict on the bundle cannot be written reason=%s", error)
            self._probation.begin_anew(self._clock.monotonic_s())

    def _carry_out_verdict(self, verdict: Verdict) -> None:
        wish = self._handover.ledger.probation
        if verdict.sick is None:
            self._handover.commit()
            if wish is not None:
                self._reports.step("committed", wish)
                self._reports.state(self._serving)
            give_back_memory()  # of the bundle before; not while this one took over
        elif wish is not None and self._handover.roll_back(verdict.sick):
            self._restart()
            raise _Stopped

    def _restart(self) -> None:
        """Let another bundle serve: its network is opened while this one still judges."""
        models = self._config.models
        try:
            bundle = serving_bundle(models, self._handover.ledger)
            known = self._precisions.read(bundle.digest)
            opened = open_classifier(bundle, models.precision, known, threads=models.threads)
            self.successor = Opened(bundle, *opened)
        except (BundleError, ClassifierError, OSError) as error:
            # The start meets it too, and leaves the bundle.
            _log.warning("the next bundle does not open reason=%s", error)
        self.wants_restart = True

    def _refuse(self, error: Exception) -> None:
        self._refused_s = time.monotonic()
        wish = self._wish
        if wish is None:
            raise AssertionError("only a wish is refused")
        self._complain(f"bundle refused name={wish.name} sequence={wish.sequence}", error)
        if isinstance(error, _UnfitError) and isinstance(wish, Install):
            self._handover.remember(
                refused=self._handover.ledger.refusing(wish.digest, str(error)).refused
            )
        self._finish("refused", wish, str(error))
        self._reports.state(self._serving, wish, f"refused: {error}")

    def _complain(self, what: str, error: Exception) -> None:
        """Warn of what is desired."""
        self._complaints.say(what, self._topics.model_desired, error, self._clock.monotonic_s())

    def _finish(self, step: Step, wish: Desired, reason: str = "") -> None:
        self._handover.remember(answered=wish.request)
        self._tell(step, wish, reason)

    def _tell(
        self,
        step: Step,
        wish: Desired,
        reason: str = "",
        measured: Measured = Measured(),  # noqa: B008 - frozen
    ) -> None:
        wish = self._wish if self._wish is not None and step not in FINAL else wish
        self._step = step
        _log.info("update step=%s name=%s sequence=%d", step, wish.name, wish.sequence)
        self._reports.step(step, wish, reason, measured)


def _is_same(wish: Desired, other: Desired) -> bool:
    if isinstance(wish, Install) and isinstance(other, Install):
        return wish.digest == other.digest
    return type(wish) is type(other) and wish.sequence == other.sequence
