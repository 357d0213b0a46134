"""The page beside the daemon: from the configuration to a page that is served."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.clock import Clock
from edge_runtime.daemon import Daemon
from edge_runtime.samples import SampleStore
from edge_runtime.web.server import PageServer
from transom.config import Config, PageConfig
from transom.errors import PageError
from transom.secret import find_secret

_log = logging.getLogger(__name__)

_NEEDED = ("starlette", "tomlkit", "uvicorn")


class Page:
    """The page of a device, over restarts of its daemon.

    Attributes:
        wants_reload: Whether the configuration file was changed by the page.

    Args:
        server: Serves it.
        config_file: The configuration.
    """

    def __init__(self, server: PageServer, config_file: Path) -> None:
        self.wants_reload = False
        self._server = server
        self._config_file = config_file

    @property
    def process_id(self) -> int | None:
        """The process that speaks HTTP; None while there is none."""
        return self._server.process_id

    @contextmanager
    def showing(
        self, config: Config, daemon: Daemon, samples: SampleStore | None, clock: Clock
    ) -> Iterator[None]:
        """Show what a daemon sees for as long as this lasts."""
        from edge_runtime.web.device import DeviceDesk  # the page's libraries may not be there

        def reload() -> None:
            self.wants_reload = True
            daemon.ask_to_stop()

        self.wants_reload = False
        desk = DeviceDesk(config, self._config_file, daemon, samples, clock, reload)
        self._server.start(desk)
        try:
            yield
        finally:
            self._server.stop()


@contextmanager
def serving_page(config: PageConfig, folder: Path, config_file: Path) -> Iterator[Page | None]:
    """Serve for as long as this lasts; a page that cannot be served does not stop the daemon.

    Args:
        config: The page.
        folder: The state directory.
        config_file: The configuration.

    Raises:
        ConfigurationError: There is no such certificate.
    """
    certificate = find_certificate(config, config_file)
    try:
        check_libraries()
        server = PageServer(config, folder, certificate)
    except PageError as error:
        _log.error("page is not served: %s", error)
        yield None
        return
    try:
        yield Page(server, config_file)
    finally:
        server.close()


def find_certificate(config: PageConfig, config_file: Path) -> tuple[str, str] | None:
    """Return the files of the page's certificate and of its key; None = no https.

    Raises:
        ConfigurationError: One of them is not there.
    """
    if config.certificate_file is None or config.key_file is None:
        return None
    return (
        str(find_secret(config.certificate_file, config_file, "certificate")),
        str(find_secret(config.key_file, config_file, "key")),
    )


def check_libraries() -> None:
    """Look whether what the page needs is installed.

    Raises:
        PageError: It is not.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise PageError(f"{', '.join(missing)} is not installed: pip install 'transom[web]'")
