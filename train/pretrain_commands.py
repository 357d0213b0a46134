"""The command `transom pretrain`."""

from pathlib import Path

import click
import msgspec

from train.progress import progress_bar
from transom.manifest import InputSpec

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("pretrain")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...", type=_FOLDER)
@click.option("--out", required=True, type=_FILE, help="File to write, .safetensors.")
@click.option("--backbone", default="autoencoder", show_default=True, help="Whose trunk.")
@click.option("--size", type=int, default=128, show_default=True, help="Side of crops, pixels.")
@click.option("--margin", type=float, default=0.1, show_default=True, help="Context of a zone.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--from", "start", type=_FILE, help="Weights to begin with; otherwise random ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pretrain_command(
    datasets: tuple[Path, ...],
    out: Path,
    backbone: str,
    size: int,
    margin: float,
    epochs: int,
    seed: int,
    start: Path | None,
    as_json: bool,
) -> None:
    """Teach a backbone what pictures look like, without any label.

    Parts of each picture are hidden and the rest is noisy; the backbone and a decoder learn to
    paint it as it was. The file is what a training starts from. Rows need no label; those of the
    split test are left out, so that they stay unseen.

    \b
    Examples:
        transom pretrain frames --out trunk.safetensors
        transom train doors --out run --backbone autoencoder --set pretrained=trunk.safetensors
    """
    from train.corpus_loader import read_corpus
    from train.pretrain import Pretraining, pretrain_autoencoder, unlabelled

    corpus = read_corpus(datasets, InputSpec(size=size, margin=margin))
    with progress_bar("pretraining") as progress:
        found = pretrain_autoencoder(
            backbone,
            unlabelled(corpus),
            out,
            pretrained=start or False,
            settings=Pretraining(epochs=epochs, seed=seed),
            progress=progress,
        )
    if as_json:
        told = {"file": str(found.path), "backbone": backbone, "losses": found.losses}
        click.echo(msgspec.json.encode(told).decode())
        return
    click.echo(
        f"{found.path}: trunk of {backbone}; what painting costs fell from "
        f"{found.losses[0]:.3f} to {found.losses[-1]:.3f} (1 = everything in the mean colour)"
    )
