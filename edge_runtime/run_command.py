"""The command `transom run`: the cameras first, then what takes long to import.

A camera is read by a process of its own, which imports OpenCV and opens the source. So that this is
not waited for at the end, it begins at once: nothing is imported here but what that needs. The
network's and the broker's libraries follow in `edge_runtime.serve`, beside it.
"""

import gc
from pathlib import Path

import click

from edge_runtime.camera_set import CameraSet
from edge_runtime.child import leave_no_core
from edge_runtime.config_option import config_option
from edge_runtime.log import start_logging
from transom.config import load_config


@click.command("run")
@config_option
@click.option("--verbose", is_flag=True, help="Log what happens between transitions too.")
def run_command(config_file: Path, verbose: bool) -> None:
    """Watch the doors and windows of a configuration file until told to stop.

    \b
    Example:
        transom run --config /etc/transom/transom.toml
    """
    leave_no_core()
    start_logging(verbose=verbose)
    config = load_config(config_file)
    cameras = CameraSet(config, config_file)
    try:
        cameras.start()
        # While the cameras' processes open their sources. What libraries make when they are
        # imported stays, so that looking through it for garbage is in vain, now and later.
        gc.disable()
        from edge_runtime.serve import serve

        gc.freeze()
        gc.enable()
        serve(config, config_file, cameras)
    finally:
        cameras.stop()
