"""The page's commands: `transom page`."""

from pathlib import Path

import click

from edge_runtime.web.address import link_to, read_token
from transom.config import load_config
from transom.errors import PageError

_CONFIG_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("page")
@click.option(
    "--config",
    "config_file",
    type=_CONFIG_FILE,
    default=Path("/etc/transom/transom.toml"),
    show_default=True,
    help="The configuration.",
)
def page_command(config_file: Path) -> None:
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
    click.echo(link_to(config.page, config.page.port, token))
