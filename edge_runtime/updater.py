"""The device's side of a deployment: what is desired comes to serve, or is refused with a reason.

    desired -> download -> verify -> trial in a child process -> shadow -> hand over -> restart
            -> probation -> commit

A thread of its own does this, one wish at a time; the daemon's loop and the connection's thread
only put things into its inbox. Nothing of a wish but its half-fetched file outlives the process
before the hand-over: the broker delivers it again, and the steps up to there are repeated.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.admission import Admission
from edge_runtime.camera_watch import Look
from edge_runtime.classifier import Answers
from edge_runtime.clock import Clock
from edge_runtime.complaints import Complaints
from edge_runtime.download import Exchange, clear_parts
from edge_runtime.handover import Handover
from edge_runtime.key_statements import KeyStatements
from edge_runtime.link import Received
from edge_runtime.memory import give_back_memory
from edge_runtime.models import serving_bundle
from edge_runtime.precision import Opened, PrecisionFile, open_classifier
from edge_runtime.probation import Probation, Verdict
from edge_runtime.refusal_pause import RefusalPause
from edge_runtime.shadow import SharedLooks, share
from edge_runtime.sqlite_file import is_full
from edge_runtime.staging import Staging, UnfitError
from edge_runtime.update_inbox import Stopped, Thing, UpdateInbox
from edge_runtime.update_reports import Measured, UpdateReports
from transom.bundle import Bundle
from transom.config import Config
from transom.errors import BundleError, ClassifierError, MessageError, UpdateError
from transom.manifest import InputSpec
from transom.messages import Topics
from transom.updates import FINAL, Desired, Install, Rollback, Step, read_desired

_log = logging.getLogger(__name__)

_JOIN_S = 1.0
_PART_S = 7 * 86400.0
"""A half-fetched bundle that nobody has gone on with for so long is left for good."""


class _Superseded(Exception):  # noqa: N818 - no error
    """Something else is desired, or nothing any more."""


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
        self._keys = KeyStatements(config.models, reports, clock)
        self._clock = clock
        self._store = Path(config.models.store)
        self._complaints = Complaints(_log)
        self._precisions = PrecisionFile(
            Path(config.state_directory), threads=config.models.threads
        )
        self._inbox = UpdateInbox(self._meet)
        self._staging = Staging(
            config,
            self._terms,
            exchange,
            self._admission,
            self._inbox,
            reports,
            serving.manifest,
            self._precisions,
        )
        self._wish: Desired | None = None  # what is being carried out
        self._next: Desired | None = None  # what comes after it
        self._refusal_pause = RefusalPause()
        self._step: Step = "accepted"
        self._is_asked = False
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
        if self._keys.are_wanted:
            self._keys.show()
            self._exchange.listen(self._topics.model_keys, self._inbox.put_aside)
        self._exchange.listen(self._topics.model_desired, self._inbox.put_aside)
        if self._terms.install == "when_asked":
            self._exchange.listen(self._topics.model_install, self._inbox.put_aside)

    def stop(self) -> None:
        """End the thread; what it does is taken up again after the next start."""
        is_told = self._inbox.end(_JOIN_S)  # else it is stuck, and ends with the process
        if is_told and self._thread.is_alive():
            self._thread.join(_JOIN_S)

    @property
    def shadow_input(self) -> InputSpec | None:
        """What the network in trial wants to see of the daemon's looks; None = nothing."""
        return self._staging.shadow_input

    def looked(self, looks: Sequence[Look], answers: Answers) -> None:
        """Take in what the serving network has just judged; never waits."""
        wanted = self.shadow_input
        if wanted is not None:
            self.take_looks(share(looks, answers, self._serving, wanted))

    def take_looks(self, looks: SharedLooks) -> None:
        """Take in looks for the network in trial; dropped where it does not keep up."""
        self._inbox.put_looks(looks)

    def note_health(self, *, is_well: bool) -> None:
        """Take in whether all cameras are accounted for and the daemon gets on; once a second."""
        if not self._handover.ledger.starts:
            return
        verdict = self._probation.look(self._clock.monotonic_s(), is_well=is_well)
        if verdict is not None and not self._inbox.offer(verdict):
            self._probation.take_back()

    # ---------------------------------------------------------------- what comes

    def _meet(self, thing: Thing) -> None:
        topics = self._topics
        match thing:
            case Verdict():
                self._judge(thing)
            case Received(topic=topics.model_desired):
                self._meet_desired(thing)
            case Received(topic=topics.model_install):
                # A retained command would be carried out at every reconnect.
                self._is_asked |= not thing.retain
            case Received(topic=topics.model_keys):
                self._keys.take(thing)

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
            reason = "something else is desired" if wish else ""
            self._tell("withdrawn", current, reason=reason)
            self._reports.state(self._serving)
            raise _Superseded

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self.wants_restart:
            try:
                while (pause_s := self._pause_s()) > 0.0 or self._next is None:
                    self._inbox.wait(pause_s or None)
                wish, self._next = self._next, None
                self._take_up(wish)
            except Stopped:
                return
            except Exception:
                # Nobody but this thread could ever bring a better bundle, or a mended Transom's.
                _log.exception("an update met what it did not expect")
                self._refusal_pause.note(time.monotonic())

    def _pause_s(self) -> float:
        return self._refusal_pause.pause_s(time.monotonic())

    def _take_up(self, wish: Desired) -> None:
        ledger = self._handover.ledger
        if wish.request == ledger.answered:
            return  # delivered once more
        self._wish = wish
        try:
            while self._must_wait_for(wish):
                self._inbox.wait(None)
            self._carry_out(wish)
        except _Superseded:
            if self._next is None:
                clear_parts(self._store)  # nobody wants the half of it any more
        except (UpdateError, BundleError) as error:
            self._refuse(error)
        except OSError as error:
            if is_full(error):
                clear_parts(self._store)  # events need the room more than another try would
            self._refuse(UpdateError(f"{self._store}: {error.strerror or error}"))
        except Stopped:
            raise
        except Exception as error:
            _log.exception("an update met what it did not expect")
            self._refuse(UpdateError(f"unexpected {type(error).__name__}: {error}"))
        finally:
            self._wish = None

    def _must_wait_for(self, wish: Desired) -> bool:
        """Return whether the bundle that serves must be kept or left before another may come."""
        probation = self._handover.ledger.probation
        if probation is None or isinstance(wish, Rollback):
            return False
        return not _is_same(wish, probation)

    def _carry_out(self, wish: Desired) -> None:
        if isinstance(wish, Rollback):
            self._go_back(wish)
        elif wish.digest == self._digest:
            self._answer_for_serving(wish)
        else:
            self._admission.check_offer(wish)
            self._tell("accepted", wish)
            self._await_consent(wish)
            path = self._staging.stage(wish, self._tell)
            if isinstance(self._wish, Install):
                wish = self._wish  # asked for once more meanwhile, under another name
            self._admission.verify(wish, path)  # its key may have been revoked meanwhile
            self._handover.install(path, wish, self._digest)
            self._restart()

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
            self._inbox.wait(None)

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
            raise Stopped

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
        self._refusal_pause.note(time.monotonic())
        wish = self._wish
        if wish is None:
            raise AssertionError("only a wish is refused")
        self._complain(f"bundle refused name={wish.name} sequence={wish.sequence}", error)
        if isinstance(error, UnfitError) and isinstance(wish, Install):
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
        self._tell(step, wish, reason=reason)

    def _tell(
        self,
        step: Step,
        wish: Desired,
        measured: Measured = Measured(),  # noqa: B008 - frozen
        reason: str = "",
    ) -> None:
        wish = self._wish if self._wish is not None and step not in FINAL else wish
        self._step = step
        _log.info("update step=%s name=%s sequence=%d", step, wish.name, wish.sequence)
        self._reports.step(step, wish, reason, measured)


def _is_same(wish: Desired, other: Desired) -> bool:
    if isinstance(wish, Install) and isinstance(other, Install):
        return wish.digest == other.digest
    return type(wish) is type(other) and wish.sequence == other.sequence
