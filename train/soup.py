"""One network from several runs of the same shape: the mean of their weights, chosen greedily.

References:
    Wortsman et al., Model soups, ICML 2022: recipe 1, the greedy soup.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from train.corpus import MISSING, Corpus
from train.evaluate import task_targets
from train.network import Network, predict_logits
from train.run import Run
from transom.errors import DatasetError, RunError

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Soup:
    """What came of it.

    Attributes:
        network: With the mean weights of the ingredients.
        scores: By place among the runs, its score on `val` alone; the best was taken first.
        ingredients: Places of the runs that are in it.
        score: Of the soup; never below the best run's.
    """

    network: Network
    scores: tuple[float, ...]
    ingredients: tuple[int, ...]
    score: float


def greedy_soup(runs: Sequence[Run], corpus: Corpus) -> Soup:
    """Add runs to the mean, from the best to the worst, where `val` does not get worse by it.

    Args:
        runs: Two or more of one shape.
        corpus: Its `val` judges.

    Raises:
        RunError: Two runs have not the same tasks, input and layers.
        DatasetError: `val` has no labelled row.
    """
    networks = [run.network() for run in runs]
    _check_alike(runs, networks)
    scores = [val_score(network, corpus) for network in networks]
    order = sorted(range(len(runs)), key=lambda place: -scores[place])
    ingredients, score = order[:1], scores[order[0]]
    for place in order[1:]:
        tried = val_score(_mean(networks, [*ingredients, place]), corpus)
        if tried >= score:
            ingredients, score = [*ingredients, place], tried
    return Soup(_mean(networks, ingredients), tuple(scores), tuple(ingredients), score)


def val_score(network: Network, corpus: Corpus) -> float:
    """Return the mean over tasks of the share of right answers on `val`, 0 to 1.

    Raises:
        DatasetError: `val` has no labelled row of any task.
    """
    val = corpus.split("val")
    logits, _ = predict_logits(network, val.crops)
    shares = []
    for task in network.tasks:
        targets, _ = task_targets(task, val)
        counted = targets != MISSING
        if counted.any():
            shares.append(np.mean(logits[task.name].argmax(1)[counted] == targets[counted]))
    if not shares:
        raise DatasetError(
            "a soup is chosen on rows of the split `val`, and none is labelled for a task of the "
            "runs; transom data check shows the splits"
        )
    return float(np.mean(shares))


def mean_state(states: Sequence[State]) -> dict[str, torch.Tensor]:
    """Return the mean of weights and statistics; what is no float is the first one's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point()
        else value.clone()
        for name, value in states[0].items()
    }


def _mean(networks: Sequence[Network], places: Sequence[int]) -> Network:
    network = copy.deepcopy(networks[places[0]])
    if len(places) > 1:
        network.load_state_dict(mean_state([networks[place].state_dict() for place in places]))
    return network


def _check_alike(runs: Sequence[Run], networks: Sequence[Network]) -> None:
    first = _shape(runs[0], networks[0])
    for run, network in zip(runs[1:], networks[1:], strict=True):
        if _shape(run, network) != first:
            raise RunError(
                f"{run.folder}: a soup needs runs of the same tasks, input and layers as "
                f"{runs[0].folder}, this one differs; say --how mean, or leave it out"
            )


def _shape(run: Run, network: Network) -> tuple[object, ...]:
    layers = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    recipe = run.recipe
    return run.input, list(run.tasks), layers, recipe.backbone, recipe.fusion, recipe.maps
