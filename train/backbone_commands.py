"""The command `transom backbones`: what is known of each before it is trained."""

from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from train.backbones import Backbone


_LEGEND = (
    "INT8: yes = keeps its accuracy and gains speed in integers.",
    "pretrained: yes = weights come with Transom's extra train; yours = only where this",
    "workstation has them; no = none are published.",
    "transom backbones NAME says why, and under what licence the weights are.",
)


@click.command("backbones")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--json", "as_json", is_flag=True, help="Print all facts as one JSON list.")
def backbones_command(names: tuple[str, ...], as_json: bool) -> None:
    """List the backbones, or say all that is known of some.

    \b
    Examples:
        transom backbones
        transom backbones resnet18 autoencoder
        transom train doors --out run --backbone resnet18
    """
    from train.backbones import BACKBONES  # torch is seconds: not for --help

    found = [facts(BACKBONES[name]) for name in names or BACKBONES]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    elif names:
        click.echo("\n\n".join(_page(entry) for entry in found))
    else:
        click.echo("\n".join([*_list(found), "", *_LEGEND]))


def facts(backbone: "Backbone") -> dict[str, Any]:
    """Return what the registry knows of a backbone, as plain values."""
    weights = backbone.weights
    return {
        "name": backbone.name,
        "about": backbone.about,
        "mean_bgr": backbone.mean,
        "std_bgr": backbone.std,
        "channels": backbone.channels,
        "strides": backbone.strides,
        "minimum_size": backbone.minimum_size,
        "int8_friendly": backbone.int8_friendly,
        "int8": backbone.int8,
        "weights": weights
        and {
            "source": weights.source,
            "licence": weights.licence,
            "data": weights.data,
            "comes_with_train": weights.comes_with_train,
        },
    }


def _list(found: list[dict[str, Any]]) -> list[str]:
    width = max(len(entry["name"]) for entry in found)
    head = f"{'':<{width}}  {'INT8':<5} {'pretrained':<12} {'least px':<9} what it is"
    return [
        head,
        *(
            f"{entry['name']:<{width}}  {'yes' if entry['int8_friendly'] else 'no':<5} "
            f"{_pretrained(entry['weights']):<12} {entry['minimum_size']:<9} {entry['about']}"
            for entry in found
        ),
    ]


def _pretrained(weights: dict[str, Any] | None) -> str:
    if weights is None:
        return "no"
    return "yes" if weights["comes_with_train"] else "yours"


def _page(entry: dict[str, Any]) -> str:
    weights = entry["weights"]
    mean, std = (", ".join(f"{value:g}" for value in entry[key]) for key in ("mean_bgr", "std_bgr"))
    if weights is None:
        source, licence = "none published; see transom pretrain", "-"
    else:
        where = (
            "installed with Transom's extra train"
            if weights["comes_with_train"]
            else "not part of Transom: from a cache of this workstation or a file of yours"
        )
        source, licence = f"{weights['source']}, of {weights['data']}; {where}", weights["licence"]
    lines = {
        "what it is": entry["about"],
        "normalisation": f"(B, G, R - {mean}) / {std}, inside the network",
        "stages": ", ".join(
            f"{channels} channels at stride {stride}"
            for channels, stride in zip(entry["channels"], entry["strides"], strict=True)
        ),
        "least crop": f"{entry['minimum_size']} pixels",
        "INT8": f"{'yes' if entry['int8_friendly'] else 'no'}: {entry['int8']}",
        "weights": source,
        "licence": licence,
    }
    return "\n".join([entry["name"], *(f"  {key:<14} {value}" for key, value in lines.items())])
