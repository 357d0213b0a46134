"""The recipe: everything that decides a training, in one TOML file."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from transom.errors import ConfigurationError
from transom.mistakes import find_mistakes
from transom.preprocess import Steps

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
NotNegative = Annotated[float, Meta(ge=0.0)]
Settings = TypeVar("Settings", bound=msgspec.Struct)

RUN_TABLE = "run"
"""Table that a run's recipe.toml has beside the recipe: what it met on its way, not its wishes."""


FEATURE_EXTRACTOR = ("backbone", "pretrained", "fusion", "maps", "maps_fusion", "size", "embedding")
"""Keys that say what features of a picture the network computes; the others say how it learns."""


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pictures are varied in training. Zero turns a variation off.

    Attributes:
        flip: Probability of a mirror image. Set it to 0 where left and right differ in meaning.
        zoom: Least share of the crop's side that is still shown, 0.3 to 1; drawn between it and
            1 + (1 - zoom) / 4, so that a zone drawn too tight or too wide is still understood.
        stretch: Largest change of the aspect ratio, as a share.
        shift: Largest shift, as a share of the side.
        rotate_deg: Largest rotation, degrees either way.
        brightness: Largest change, as a share of white.
        contrast: Largest change, as a share.
        gamma: Largest exponent, as log2: 0.5 draws from 2^-0.5 to 2^0.5.
        saturation: Largest change, as a share.
        tint: Largest gain of one channel against the others, as a share: white balance.
        grey: Probability of a grey picture with a bright middle, as an infra-red camera sees.
        noise: Largest standard deviation of sensor noise, grey levels.
        blur: Probability of a Gaussian blur of up to 1.5 pixels.
        cutout: Probability of a grey rectangle over up to a quarter of the picture.
    """

    flip: Share = 0.5
    zoom: Annotated[float, Meta(ge=0.3, le=1.0)] = 0.75
    stretch: Share = 0.1
    shift: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.08
    rotate_deg: Annotated[float, Meta(ge=0.0, le=180.0)] = 5.0
    brightness: Share = 0.2
    contrast: Share = 0.3
    gamma: Annotated[float, Meta(ge=0.0, le=3.0)] = 0.5
    saturation: Share = 0.4
    tint: Share = 0.1
    grey: Share = 0.15
    noise: Annotated[float, Meta(ge=0.0, le=64.0)] = 8.0
    blur: Share = 0.2
    cutout: Share = 0.25

    @property
    def is_off(self) -> bool:
        """Whether pictures stay as they are."""
        amounts = msgspec.to_builtins(self)
        return amounts.pop("zoom") == 1.0 and not any(amounts.values())


class Mixing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pictures of a batch are mixed two by two, with their labels. Zero turns a way off.

    With both, every batch takes one of them, each as often.

    Attributes:
        mixup: Both parameters of the beta distribution that draws the share of the first picture
            where two are laid over each other; 0.1 to 0.4 is usual.
        cutmix: The same where a rectangle of one is put into the other; 1 is usual.
    """

    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0

    @property
    def is_off(self) -> bool:
        """Whether nothing is mixed."""
        return self.mixup == 0.0 and self.cutmix == 0.0


class Distillation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is learnt from teachers, where there are any.

    Attributes:
        weight: Share of the teachers' answers in the loss, the labels have the rest. A task of
            which a row has no label is learnt there from the teachers alone.
        temperature: Softens what teachers and student say before they are compared.
        datasets: Names of the data sets on whose pictures teachers are heard; on all others the
            labels alone count, because a teacher is no help where it knows less than they.
            Empty = on all.
    """

    weight: Share = 0.7
    temperature: Positive = 2.0
    datasets: tuple[str, ...] = ()


class Mutual(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Networks that learn from each other while they are trained; the first of them is kept.

    Attributes:
        peers: How many are trained beside it, each from its own random start; every one costs as
            much as the first. 0 = it learns alone.
        weight: Of each other's answers in the loss, beside the labels' 1.
        temperature: Softens the answers before they are compared.
    """

    peers: Annotated[int, Meta(ge=0, le=8)] = 0
    weight: NotNegative = 1.0
    temperature: Positive = 1.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides a training but the data.

    Attributes:
        seed: Of every random number.
        size: Side of the crops, pixels.
        margin: Context around the zone, as a share of its own sides (see `crop_zone`).
        preprocess: Steps on every crop, in this order, here and on the device; names in
            `transom.preprocess`. They come before `augment`.
        backbone: Name in `train.backbones`.
        width: Share of the backbone's channels, for smaller boards; the `efficientnet_lite` family
            only. Weights to start from are those of the most important channels.
        pretrained: Start from the backbone's pretrained weights, where it has any; or from those in
            the file that this names (see `Backbone.trunk`).
        start: A run's folder, or `starter` for the one that comes with Transom: a whole network to
            start from, its heads too where the classes are the same. Empty = only the backbone
            is `pretrained`.
        fusion: How tasks share the network; name in `train.fusion`.
        maps: Hand-made maps that the network computes from its pixels and uses beside what it
            learns; names in `train.fusion.maps`.
        maps_fusion: Where maps join: `early`, at the first stage, in a way that changes nothing
            before the first step; or `late`, through a branch of their own, at the embedding.
        embedding: Length of the embedding; a multiple of 16 suits ARM's integer kernels. Where a
            fusion gives each task a part of it, rounded down to a multiple of their number.
        dropout: Share of the embedding that is dropped in training.
        epochs: Passes over the training rows.
        frozen_epochs: How many of them train only what was not pretrained.
        unfreeze_epochs: After those, how many epochs train one more pretrained stage, from the
            deepest up, before the next joins; 0 = all join at once.
        frozen_views: How many variations of each picture are shown in turn while pretrained stages
            are frozen; what these stages make of them is computed once and kept (see
            `train.features`), so that more epochs cost next to nothing. 0 = every epoch varies
            anew and computes anew; so do as few epochs as there are views, `mix`,
            `reconstruction`, and teachers, who have to see the picture.
        batch: Rows a step, on all machines together.
        learning_rate: Largest rate, of what was not pretrained.
        norm: Batch normalisation of pretrained parts in training: `batch` normalises by the
            statistics of each batch and learns new ones; `frozen` by those that it came with, which
            suits small batches and is faster on a CPU. Scale and offset are learnt either way.
        backbone_rate: The deepest pretrained stage's rate, as a share of `learning_rate`.
        stage_decay: Each shallower stage's rate, as a share of the next deeper one's.
        weight_decay: Of AdamW; not for biases and normalisation.
        warmup: Share of the steps after the frozen epochs in which the rate rises; then it falls
            along a cosine.
        clip: Largest norm of the gradient; 0 = any.
        average: Memory of the averaged weights, as a share of all steps; 0 = the last weights.
        weighting: How task losses are balanced; name in `train.weighting`.
        task_weights: By task, for weightings that take them; 1 where not named.
        label_smoothing: Share of the truth that is spread over all classes.
        reconstruction: Weight of painting each picture again from the backbone's last map, a task
            that needs no label, beside the sum of the others; 0 = off. Only in training.
        ordinal_loss: For tasks whose classes are ordered: `cross_entropy` treats them as any
            others, `earth_mover` adds the squared distance between cumulative distributions.
        class_weights: Weigh rare classes up in the loss; not together with balanced sampling.
        sampling: How rows are drawn; name in `train.sampling`.
        dataset_weights: By data set, how much is drawn from it, relative to the others; names
            every one, or none. Without it, a large data set outweighs a small one.
        precision: Of the forward and backward pass: `bf16` computes what it can in bfloat16,
            `auto` does so where that is faster: on a GPU that has it.
        augment: How pictures are varied.
        mix: How they are mixed two by two.
        distill: How much is learnt from teachers, where the training is given any.
        mutual: Networks trained beside this one, to learn from each other.

    Raises:
        ValueError: Two keys contradict each other.
    """

    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    size: Annotated[int, Meta(ge=16, le=1024)] = 128
    margin: Share = 0.1
    preprocess: Steps = ()
    backbone: str = "efficientnet_lite0"
    width: Annotated[float, Meta(ge=0.1, le=2.0)] = 1.0
    pretrained: bool | str = True
    start: str = ""
    fusion: str = "hard"
    maps: tuple[str, ...] = ()
    maps_fusion: Literal["early", "late"] = "early"
    embedding: Annotated[int, Meta(ge=8, le=4096)] = 128
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.2
    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 8
    frozen_epochs: Annotated[int, Meta(ge=0)] = 1
    unfreeze_epochs: Annotated[int, Meta(ge=0)] = 0
    frozen_views: Annotated[int, Meta(ge=0, le=1000)] = 4
    batch: Annotated[int, Meta(ge=2, le=65536)] = 32
    norm: Literal["batch", "frozen"] = "frozen"
    learning_rate: Positive = 1e-3
    backbone_rate: Share = 0.5
    stage_decay: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.8
    weight_decay: NotNegative = 0.02
    warmup: Share = 0.1
    clip: NotNegative = 2.0
    average: Share = 0.1
    weighting: str = "equal"
    task_weights: dict[str, NotNegative] = {}
    label_smoothing: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    reconstruction: NotNegative = 0.0
    ordinal_loss: Literal["cross_entropy", "earth_mover"] = "cross_entropy"
    class_weights: bool = False
    sampling: str = "class_balanced"
    dataset_weights: dict[str, NotNegative] = {}
    precision: Literal["float32", "bf16", "auto"] = "auto"
    augment: Augmentation = Augmentation()
    mix: Mixing = Mixing()
    distill: Distillation = Distillation()
    mutual: Mutual = Mutual()

    def __post_init__(self) -> None:
        if len(set(self.maps)) < len(self.maps):
            raise ValueError(f"maps must each be named once, got {', '.join(self.maps)}")
        if self.class_weights and self.sampling != "shuffled":
            raise ValueError(
                f"class_weights and sampling = {self.sampling!r} would balance the classes twice; "
                "set class_weights = false or sampling = 'shuffled'"
            )

    def to_toml(self) -> str:
        """Return the recipe as TOML that `load_recipe` reads back to an equal one."""
        return toml_text(msgspec.to_builtins(self))

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe's values, hexadecimal."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    def with_values(self, values: Mapping[str, object]) -> "Recipe":
        """Return a copy with some keys set; a dotted key reaches into a table.

        Raises:
            ConfigurationError: There is no such key, or the value is not one it can have.

        Examples:
            >>> Recipe().with_values({"epochs": 2, "augment.flip": 0}).augment.flip
            0.0
        """
        return set_values(self, values, "recipe")


def set_values(settings: Settings, values: Mapping[str, object], where: str) -> Settings:
    """Return a copy of frozen settings with some keys set; a dotted key reaches into a table.

    Args:
        settings: Of any such type.
        values: By key.
        where: What errors call the settings.

    Raises:
        ConfigurationError: There is no such key, or the value is not one it can have.
    """
    tree: dict[str, Any] = msgspec.to_builtins(settings)
    for key, value in values.items():
        *tables, last = key.split(".")
        table = tree
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigurationError(f"{where}: {key}: {name} is not a table")
        table[last] = value
    return decode_tree(tree, type(settings), where)


def decode_tree(tree: Mapping[str, Any], kind: type[Settings], where: str) -> Settings:
    """Return nested mappings as settings of a type.

    Raises:
        ConfigurationError: A key is unknown or a value is not one it can have; with its path.
    """
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        mistakes = find_mistakes(tree, kind) or [str(error)]
        raise ConfigurationError([f"{where}: {mistake}" for mistake in mistakes]) from error


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; keys that the file does not name have their defaults.

    A run's own `recipe.toml` is a recipe too: its `[run]` table is left aside.

    Raises:
        ConfigurationError: The file cannot be read, a key is unknown, or a value is out of range.
    """
    tree = read_toml(path)
    tree.pop(RUN_TABLE, None)
    return decode_tree(tree, Recipe, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigurationError: It is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error


def parse_setting(text: str) -> tuple[str, object]:
    """Read `key=value`, the value as TOML, or as plain text where it is not TOML.

    Raises:
        ValueError: There is no `=` or no key.

    Examples:
        >>> parse_setting("augment.flip=0.0"), parse_setting("backbone=tiny")
        (('augment.flip', 0.0), ('backbone', 'tiny'))
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise ValueError(f"a setting must be key=value, got {text!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value


def toml_text(tree: Mapping[str, Any]) -> str:
    """Return nested mappings of plain values as TOML; keys whose value is None are left out.

    Examples:
        >>> print(toml_text({"a": 1, "t": {"b": ["x"]}}), end="")
        a = 1
        <BLANKLINE>
        [t]
        b = ["x"]
    """
    return "\n".join(_toml_lines(tree, ())).lstrip("\n") + "\n"


def _toml_lines(tree: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    plain = {k: v for k, v in tree.items() if not isinstance(v, Mapping) and v is not None}
    tables = {k: v for k, v in tree.items() if isinstance(v, Mapping)}
    header = ["", f"[{'.'.join(map(_toml_key, path))}]"] if path and (plain or not tables) else []
    lines = header + [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for key, table in tables.items():
        lines += _toml_lines(table, (*path, key))
    return lines


def _toml_key(key: str) -> str:
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else _quoted(key)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    return repr(value)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()  # a JSON string is a TOML basic string
