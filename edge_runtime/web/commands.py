"""The page's commands: `transom page` and `transom label`."""

import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from edge_runtime.config_option import config_option
from edge_runtime.web.address import access_of, link_to, listen_at, read_token
from transom.bundle import read_bundle
from transom.config import PageConfig, load_config
from transom.errors import PageError
from transom.starter import bundle_path

_json = click.option("--json", "as_json", is_flag=True, help="The link as one JSON object.")


@click.command("page")
@config_option
@_json
def page_command(config_file: Path, as_json: bool) -> None:
    """Print the link that opens the page of this device; its token is a secret.

    \b
    Example:
        transom page --config /etc/transom/transom.toml
    """
    config = load_config(config_file)
    if config.page is None:
        raise PageError(f"{config_file}: the page is off; add a table [page] to switch it on")
    if config.page.port == 0:
        raise PageError(f"{config_file}: page.port is 0, the log says which port was free")
    token = read_token(Path(config.state_directory), is_made=False)
    _tell(link_to(config.page, config.page.port, token), as_json=as_json)


@click.command("label")
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--model",
    default="starter",
    show_default=True,
    help="Bundle whose network puts the pictures in order, or the word starter.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 = any that is free.")
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Open the page in a browser; with --json only if asked to.",
)
@_json
def label_command(
    dataset: Path, model: str, port: int, browser: bool | None, as_json: bool
) -> None:
    """Label the pictures of a data set in a browser, those that are alike together.

    Labels are written into its labels.csv at once. The page is served to this machine only, to whom
    has the link, until Ctrl-C.

    \b
    Example:
        transom label home/
    """
    from edge_runtime.web.app import make_app  # the extra: said by name where it is missing
    from edge_runtime.web.dataset import DatasetDesk
    from edge_runtime.web.process import serve

    desk = DatasetDesk(dataset, read_bundle(bundle_path(model), None))
    config = PageConfig(port=port)
    token = secrets.token_urlsafe(24)
    with listen_at(config) as listener:
        at = int(listener.getsockname()[1])
        link = link_to(config, at, token)
        ending = threading.Event()
        looking = threading.Thread(target=_look, args=(desk.look, ending), daemon=True)
        looking.start()
        try:  # from here on: a thread within the network's runtime would abort the program's end
            _tell(link, as_json=as_json)
            # What a browser prints would stand beside the link that a script reads.
            if browser or (browser is None and not as_json):
                click.launch(link)
            serve(make_app(access_of(config, token, at), desk.answer), listener)
        finally:
            ending.set()
            looking.join()


def _tell(link: str, *, as_json: bool) -> None:
    click.echo(msgspec.json.encode({"link": link}) if as_json else link)


def _look(look: Callable[[], bool], ending: threading.Event) -> None:
    """Look at what there is, and now and then whether there is more."""
    while not ending.is_set():
        if not look():
            ending.wait(1.0)
