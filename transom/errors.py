"""Every error that Transom raises on purpose; one type per different thing a caller does about it.

    TransomError                 a message for a person: print it, exit 1
    ├── ConfigurationError       mend the configuration file; exit 78, where the unit stays down
    ├── DatasetError             mend the data set: file, line, what it must be
    ├── RunError                 the folder of a training run is missing something or is damaged
    ├── BundleError              the bundle is not what it says; fetch or export it again
    │   └── SignatureError       nobody this device trusts has signed it
    ├── MessageError             an MQTT payload or topic that this version cannot read; ignore it
    ├── ExportError              no bundle was written; the message says which gate failed
    ├── ClassifierError          the network of a verified bundle does not run on this machine
    ├── CameraError              a source cannot be opened or read; try again later
    ├── OutboxError              the event store cannot be used
    ├── SampleError              the store of pictures worth a label cannot be opened
    ├── PageError                the page cannot be served, or does not do what is asked of it
    └── UpdateError              a bundle that is offered is not installed; the message says why

A caller's mistake (a wrong shape or type) stays ValueError or TypeError.
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 78

MOST_MISTAKES = 100
"""Of a configuration file, that are shown: one that is no such file at all has as many as lines."""


class TransomError(Exception):
    """Base of every error that Transom raises on purpose."""

    exit_code = EXIT_FAILED


class ConfigurationError(TransomError):
    """A configuration file that cannot be used; `mistakes` holds one line each."""

    exit_code = EXIT_CONFIGURATION

    def __init__(self, mistakes: str | list[str]) -> None:
        found = [mistakes] if isinstance(mistakes, str) else list(mistakes)
        more = len(found) - MOST_MISTAKES
        self.mistakes = found[:MOST_MISTAKES] + (
            [f"and {more:,} more mistakes"] if more > 0 else []
        )
        super().__init__("\n".join(self.mistakes))


class DatasetError(TransomError):
    """A data set that cannot be used."""


class RunError(TransomError):
    """A training run's folder that cannot be used."""


class BundleError(TransomError):
    """A bundle that is not what it says."""


class SignatureError(BundleError):
    """A bundle that nobody trusted has signed."""


class MessageError(TransomError):
    """An MQTT topic or payload that cannot be read."""


class ExportError(TransomError):
    """An export that stopped before a bundle was written."""


class ClassifierError(TransomError):
    """A verified network that does not run on this machine."""


class CameraError(TransomError):
    """A camera that cannot be opened or read."""


class OutboxError(TransomError):
    """An event store that cannot be used."""


class SampleError(TransomError):
    """A store of pictures worth a label that cannot be opened."""


class PageError(TransomError):
    """A page that cannot be served, or something that it is asked for and does not do.

    Args:
        what: For the person who asked.
        status: As HTTP has it.
    """

    def __init__(self, what: str, status: int = 400) -> None:
        self.status = status
        super().__init__(what)


class UpdateError(TransomError):
    """A bundle that was offered and is not installed."""


def brief(error: Exception) -> str:
    """Return a library's error in a line: its kind, and the beginning of what it says.

    The `repr` of a UnicodeDecodeError holds all that could not be decoded.
    """
    return f"{type(error).__name__}: {start_of(error)}"


def start_of(error: Exception) -> str:
    """Return the beginning of what a library says of a file: a name in that may be endless."""
    return str(error)[:200]
