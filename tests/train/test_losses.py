import numpy as np
import pytest
import torch

from train.losses import TaskLosses, cross_entropy, earth_mover, inverse_frequency
from train.recipe import Recipe
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window")),
        Task(name="state", classes=("closed", "ajar", "open"), ordinal=True),
    ]
)


def some_logits(n=6):
    generator = torch.Generator().manual_seed(0)
    return {
        "kind": torch.randn(n, 2, generator=generator, requires_grad=True),
        "state": torch.randn(n, 3, generator=generator, requires_grad=True),
    }


def test_cross_entropy_without_smoothing_is_minus_the_log_of_the_truth():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    rows = cross_entropy(logits, torch.tensor([0, 2]))
    expected = -torch.log_softmax(logits, 1)[[0, 1], [0, 2]]
    torch.testing.assert_close(rows, expected)


def test_smoothing_spreads_a_share_of_the_truth_over_all_classes():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    log = torch.log_softmax(logits, 1)[0]
    [row] = cross_entropy(logits, torch.tensor([1]), smoothing=0.3)
    torch.testing.assert_close(row, -(0.7 * log[1] + 0.1 * log.sum()))


def test_a_row_without_a_label_costs_nothing():
    logits = torch.randn(3, 3)
    targets = torch.tensor([0, -1, 2])
    assert cross_entropy(logits, targets, smoothing=0.1)[1] == 0
    assert earth_mover(logits, targets)[1] == 0


def test_the_earth_mover_s_cost_grows_with_the_distance():
    sure = torch.tensor([[50.0, 0.0, 0.0]]).expand(3, 3)
    assert earth_mover(sure, torch.tensor([0, 1, 2])).tolist() == pytest.approx([0.0, 1.0, 2.0])


@pytest.mark.parametrize("ordinal_loss", ["cross_entropy", "earth_mover"])
@pytest.mark.parametrize("class_weights", [False, True])
def test_missing_labels_never_change_a_gradient(ordinal_loss, class_weights):
    recipe = Recipe(ordinal_loss=ordinal_loss, class_weights=class_weights, sampling="shuffled")
    targets = torch.tensor([[0, 2], [1, -1], [-1, 0], [-1, -1], [1, 1], [0, -1]])
    criterion = TaskLosses(recipe, TASKS, targets.numpy())

    def gradients(scale):
        logits = some_logits()
        blank = {name: targets[:, column] < 0 for column, name in enumerate(TASKS.names)}
        moved = {n: torch.where(blank[n][:, None], v * scale, v) for n, v in logits.items()}
        losses, counts = criterion(moved, targets)
        (losses / counts).sum().backward()
        return {name: value.grad for name, value in logits.items()}, blank

    (usual, blank), (other, _) = gradients(1.0), gradients(37.0)
    for name in TASKS.names:
        assert torch.equal(usual[name], other[name])
        assert torch.count_nonzero(usual[name][blank[name]]) == 0
        assert usual[name][~blank[name]].abs().sum(1).min() > 0


def test_a_task_s_mean_is_that_of_its_labelled_rows_alone():
    logits = some_logits()
    targets = torch.tensor([[0, 2], [1, -1], [-1, 0], [-1, -1], [1, 1], [0, -1]])
    losses, counts = TaskLosses(Recipe(), TASKS, targets.numpy())(logits, targets)
    rows = [0, 2, 4]
    alone = torch.nn.functional.cross_entropy(
        logits["state"][rows], targets[rows, 1], label_smoothing=Recipe().label_smoothing
    )
    assert counts.tolist() == [4.0, 3.0]
    torch.testing.assert_close(losses[1] / 3, alone)


def test_a_batch_without_a_label_of_a_task_gives_zero_not_nan():
    logits = some_logits(2)
    targets = torch.tensor([[0, -1], [1, -1]])
    losses, counts = TaskLosses(Recipe(), TASKS, targets.numpy())(logits, targets)
    losses.sum().backward()
    assert losses[1] == 0
    assert counts[1] == 0
    assert torch.count_nonzero(logits["state"].grad) == 0


def test_rare_classes_weigh_more_and_the_mean_over_rows_stays_one():
    targets = np.array([0, 0, 0, 1, -1])
    weights = inverse_frequency(targets, 3)
    assert weights.tolist() == pytest.approx([4 / 6, 2.0, 0.0])
    assert float(weights[targets[targets >= 0]].mean()) == pytest.approx(1.0)


def test_the_distance_counts_only_where_the_recipe_asks_and_the_task_is_ordinal():
    logits = some_logits()
    targets = torch.zeros(6, 2, dtype=torch.int64)
    plain, _ = TaskLosses(Recipe(), TASKS, targets.numpy())(logits, targets)
    recipe = Recipe(ordinal_loss="earth_mover")
    ordered, _ = TaskLosses(recipe, TASKS, targets.numpy())(logits, targets)
    assert ordered[0] == plain[0]
    torch.testing.assert_close(
        ordered[1], plain[1] + earth_mover(logits["state"], targets[:, 1]).sum()
    )
