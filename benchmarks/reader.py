r"""How often does somebody who looks at the same crops say what the labels say?

    python -m benchmarks.reader                     # judges benchmarks/reader_answers.csv
    python -m benchmarks.reader --without g0050     # leaves a group out
    python -m benchmarks.reader --sheets FOLDER     # sheet_00.png, ...: numbered crops, shuffled
    python -m benchmarks.reader --data build/starter/eye \
        --answers benchmarks/reader_answers_eye.csv

The crops are those of the `val` rows of `--data` that have a `state`, with the starter's margin,
but of 240 pixels. A reader sees no label, no file name and no answer of a network, and cannot say
*unknown*. The two whose answers on `doors` are kept are a vision-language model, asked twice, in
another order of the sheets; on `eye`, which it labelled by whole pictures, it was asked once. Told
are how often each, and the starter, say what the label says, and how often they agree with each
other, with 95 % intervals over groups. Where readers and labels differ, no network can be right for
both.
"""

import argparse
import csv
import itertools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from train.corpus import MISSING, Corpus, load_corpus
from train.evaluate import ask_crops
from train.evaluate_commands import load_predictor
from train.metrics import group_indices, mean_interval

TASK = "state"
SIZE, COLUMNS, ROWS, HEAD = 240, 5, 4, 28
FONT = cv2.FONT_HERSHEY_SIMPLEX
ANSWERS = Path(__file__).with_name("reader_answers.csv")

Ints = npt.NDArray[np.int64]


def shuffled(corpus: Corpus) -> Ints:
    """Return the rows that have a state, in the order in which readers see them, (N,)."""
    rows = np.flatnonzero(corpus.targets[:, corpus.tasks.names.index(TASK)] != MISSING)
    return np.random.default_rng(0).permutation(rows)


def write_sheets(corpus: Corpus, folder: Path) -> None:
    """Write all crops with their numbers, twenty a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    order = shuffled(corpus)
    for first in range(0, len(order), COLUMNS * ROWS):
        sheet = np.full((ROWS * (SIZE + HEAD), COLUMNS * SIZE, 3), 255, np.uint8)
        for place, row in enumerate(order[first : first + COLUMNS * ROWS]):
            top, left = place // COLUMNS * (SIZE + HEAD), place % COLUMNS * SIZE
            crop = cv2.cvtColor(np.asarray(corpus.crops[row]), cv2.COLOR_RGB2BGR)
            sheet[top + HEAD : top + HEAD + SIZE, left : left + SIZE] = crop
            where = (left + 8, top + HEAD - 7)
            cv2.putText(sheet, str(first + place), where, FONT, 0.7, (0, 0, 0), 2)
        cv2.imwrite(str(folder / f"sheet_{first // (COLUMNS * ROWS):02}.png"), sheet)


def read_answers(path: Path, states: tuple[str, ...]) -> dict[str, Ints]:
    """Return what each reader says of the crops, in the order of their numbers, (N,)."""
    with path.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["number"]))
    readers = [name for name in rows[0] if name != "number"]
    return {name: np.array([states.index(row[name]) for row in rows]) for name in readers}


def told(right: npt.NDArray[np.bool_], groups: Ints) -> str:
    """Return a share with its interval."""
    low, high = mean_interval(right.astype(float), groups) or (np.nan, np.nan)
    return f"{right.mean():.1%} ({low:.1%} to {high:.1%})"


def judge(fine: Corpus, fed: Corpus, path: Path, without: frozenset[str]) -> None:
    """Print how readers and the starter stand to the labels, and to each other.

    Args:
        fine: The crops as readers see them.
        fed: The same crops as the starter is fed them.
        path: What readers answered.
        without: Names of groups that are left out.
    """
    order = shuffled(fine)
    states = fine.tasks[TASK].classes
    targets = fine.targets[order, fine.tasks.names.index(TASK)]
    groups = group_indices(fine.groups)[order]
    answers = read_answers(path, states)
    if (count := len(next(iter(answers.values())))) != len(order):
        raise SystemExit(
            f"{path}: has {count} answers, the data set {len(order)} crops; "
            "give --answers that belong to --data"
        )
    logits = ask_crops(load_predictor("starter"), np.asarray(fed.crops)).logits[TASK]
    answers["starter"] = logits.argmax(1)[order]
    if unknown := without - {row.group for row in fine.rows}:
        raise SystemExit(
            f"--without {' '.join(sorted(unknown))}: --data has no such group in its val rows"
        )
    kept = np.array([fine.rows[row].group not in without for row in order])
    targets, groups = targets[kept], groups[kept]
    answers = {name: said[kept] for name, said in answers.items()}
    closed = states.index("closed")
    print(f"{len(targets)} crops of {len(set(groups))} groups")
    for name, said in answers.items():
        print(f"{name}: three states {told(said == targets, groups)}")
        print(f"  closed against not {told((said == closed) == (targets == closed), groups)}")
        for label, state in enumerate(states):
            of_label = said[targets == label]
            shares = [f"{other} {(of_label == n).mean():.0%}" for n, other in enumerate(states)]
            print(f"  labelled {state}: said {', '.join(shares)}")
    for name, other in itertools.combinations(answers, 2):
        print(f"{name} and {other} agree on {told(answers[name] == answers[other], groups)}")
        more = (answers[name] == targets).astype(float) - (answers[other] == targets)
        low, high = mean_interval(more, groups) or (np.nan, np.nan)
        print(
            f"  {name} is as labelled {100 * more.mean():+.1f} points more often "
            f"({100 * low:+.1f} to {100 * high:+.1f})"
        )


def main() -> None:
    """Write sheets, or judge what readers said of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/doors"), help="its val rows are judged"
    )
    parser.add_argument(
        "--answers", type=Path, default=ANSWERS, help="number and a column a reader"
    )
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="GROUP", help="groups to leave out"
    )
    parser.add_argument("--sheets", type=Path, help="write the sheets into this folder instead")
    arguments = parser.parse_args()
    asked = load_predictor("starter").input
    folders = [arguments.data]
    fine = load_corpus(folders, size=SIZE, margin=asked.margin, steps=asked.preprocess).split("val")
    if arguments.sheets is not None:
        write_sheets(fine, arguments.sheets)
        return
    fed = load_corpus(folders, size=asked.size, margin=asked.margin, steps=asked.preprocess)
    judge(fine, fed.split("val"), arguments.answers, frozenset(arguments.without))


if __name__ == "__main__":
    main()
