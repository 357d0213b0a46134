"""MultiMNIST: a network per task against one for both, with equal weights and balancing methods.

Two digits lie over each other; one task asks for the left one, one for the right. A LeNet trunk
is shared, and the ways of balancing the two losses are set side by side on MNIST's test digits.
Prints the table of `transom compare`, as Markdown with --markdown; the page with the plot is in
--out. What is trained is kept there, so that the benchmark goes on after an interruption.

    python benchmarks/multimnist.py --quick        about 20 minutes on one core
    python benchmarks/multimnist.py                all 60,000 digits, 20 epochs: hours
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from export.compare import Judgement, judge
from export.compare_page import write_comparison
from train.compare import compare
from train.corpus import Corpus, load_corpus
from train.multimnist import import_multimnist
from train.recipe import Recipe
from train.variants import plan_variants

WEIGHTINGS = ("equal", "uncertainty", "dwa", "rlw", "db", "pcgrad", "mgda", "cagrad", "nash")
NO_VARIATION = (
    *("flip", "stretch", "shift", "rotate_deg", "brightness", "contrast", "gamma"),
    *("saturation", "tint", "grey", "noise", "blur", "cutout"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mnist"))
    parser.add_argument("--out", type=Path, help="keep data set, runs and page here")
    parser.add_argument("--quick", action="store_true", help="10,000 digits, 6 epochs")
    parser.add_argument("--digits", type=int, help="digits of each file")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weightings", default=",".join(WEIGHTINGS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments, arguments.out or Path(temporary))


def measure(arguments: argparse.Namespace, out: Path) -> None:
    began = time.monotonic()
    digits = arguments.digits or (10_000 if arguments.quick else 60_000)
    data = out / f"multimnist-{digits}"
    if not data.exists():
        import_multimnist(arguments.data, data, limit=digits)
    recipe = recipe_of(arguments.epochs or (6 if arguments.quick else 20))
    corpus = load_corpus([data], size=recipe.size, margin=recipe.margin)
    rows = {split: int((corpus.splits == split).sum()) for split in ("train", "val", "test")}
    print(f"rows {rows}, {recipe.epochs} epochs, {arguments.seeds} seeds", flush=True)

    def load(_: Recipe) -> Corpus:
        return corpus

    variants = plan_variants(recipe.with_values, {"weighting": arguments.weightings.split(",")})
    comparison = compare(
        variants, load, out, seeds=arguments.seeds, split="test", datasets=[data], report=tell
    )
    judgement = judge(comparison, load, out)
    write_comparison(out / "compare.html", judgement, "MultiMNIST")
    print("\n".join(table(judgement, is_markdown=arguments.markdown)))
    print(f"{time.monotonic() - began:.0f} s, {judgement.machine}")


def tell(line: str) -> None:
    print(line, flush=True)


def recipe_of(epochs: int) -> Recipe:
    """The usual setting: nothing but the digits, the trunk and the weighting."""
    return Recipe(
        backbone="lenet",
        size=32,
        margin=0.0,
        embedding=80,
        dropout=0.0,
        batch=256,
        learning_rate=3e-3,
        epochs=epochs,
        label_smoothing=0.0,
        sampling="shuffled",
    ).with_values({"augment.zoom": 1.0} | {f"augment.{key}": 0.0 for key in NO_VARIATION})


def table(judgement: Judgement, *, is_markdown: bool) -> list[str]:
    bar = " | " if is_markdown else "  "
    head = [f"{'method':<18}", f"{'left':>18}", f"{'right':>18}", f"{'Δm':>20}", f"{'train s':>8}"]
    lines = [bar.join(head)]
    if is_markdown:
        lines.append(bar.join(["---", "---:", "---:", "---:", "---:"]))
    for line in judgement.table():
        cells = [f"{line['name']:<18}"]
        for task in ("left", "right"):
            low, high = (100 * end for end in line["tasks"][task]["interval"])
            right = 100 * line["tasks"][task]["accuracy"]
            cells.append(f"{right:.2f} ({low:.1f} to {high:.1f})".rjust(18))
        delta, span = line["delta_m"], line["delta_m_interval"]
        gain = "" if delta is None else f"{delta:+.2f} ({span[0]:+.1f} to {span[1]:+.1f})"
        cells += [gain.rjust(20), f"{line['train_s']:.0f}".rjust(8)]
        lines.append(bar.join(cells))
    return [f"| {line} |" for line in lines] if is_markdown else lines


if __name__ == "__main__":
    main()
