"""A bundle that nobody tried here, such as the starter: its precisions measured while it serves.

A start is busy enough, so this waits until the daemon has been at work for a while. It happens in
a process of its own, once: what is found is remembered.
"""

import logging
import threading
from pathlib import Path
from typing import Self

from edge_runtime.daemon import Daemon
from edge_runtime.memory import give_back_memory
from edge_runtime.models import serving_path
from edge_runtime.precision import PrecisionFile, open_classifier
from edge_runtime.trial import Trial
from transom.bundle import Bundle
from transom.config import ModelsConfig
from transom.errors import ClassifierError, SignatureError, UpdateError

_log = logging.getLogger(__name__)

AFTER_S = 60.0
_JOIN_S = 1.0


class Measuring:
    """Measures a bundle's precisions for as long as it is entered, and lets the faster one serve.

    Args:
        config: Where the bundle is.
        bundle: What serves; its network runs in two precisions.
        daemon: Where it serves.
        precisions: Remembers what is found.
        after_s: Seconds between two looks whether the daemon is ready.
    """

    def __init__(
        self,
        config: ModelsConfig,
        bundle: Bundle,
        daemon: Daemon,
        precisions: PrecisionFile,
        *,
        after_s: float = AFTER_S,
    ) -> None:
        self._config = config
        self._bundle = bundle
        self._daemon = daemon
        self._precisions = precisions
        self._after_s = after_s
        self._is_over = threading.Event()
        self._trial: Trial | None = None
        self._thread = threading.Thread(target=self._run, name="precision", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        trial = self._trial  # once: the thread forgets it when it has ended
        if trial is not None:
            trial.kill()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._is_over.wait(self._after_s):
            if self._daemon.is_ready:
                break
        if self._is_over.is_set():
            return
        try:
            self._measure()
        except (SignatureError, UpdateError, ClassifierError, OSError) as error:
            if not self._is_over.is_set():
                _log.warning("precision is not measured reason=%s", error)

    def _measure(self) -> None:
        path: Path = serving_path(self._config)
        with Trial(path, self._bundle.digest, self._config) as trial:
            self._trial = trial
            if self._is_over.is_set():  # before there was one to kill
                return
            tried = trial.run()
        self._trial = None
        if tried.measured is None:
            return
        self._precisions.write(self._bundle.digest, tried.measured)
        _log.info("precision=%s why=%s", tried.chosen.precision, tried.chosen.why)
        if tried.chosen.precision == self._daemon.precision.precision:
            self._daemon.precision = tried.chosen
            return
        other, chosen = open_classifier(
            self._bundle, self._config.precision, tried.measured, threads=self._config.threads
        )
        self._daemon.run_as(other, chosen)
        give_back_memory()
