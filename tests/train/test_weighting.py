import math

import pytest
import torch

from train.weighting import WEIGHTINGS
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [Task(name="kind", classes=("door", "window")), Task(name="state", classes=("shut", "open"))]
)
THREE = TaskSet([*TASKS, Task(name="light", classes=("day", "night"))])
SHARED = torch.zeros(4, 8)
BOTH = torch.tensor([True, True])


def start(name, tasks=TASKS, weights=None):
    weighting = WEIGHTINGS[name](tasks, weights or {})
    weighting.begin_epoch(3)
    return weighting


def slopes(weighting, losses, labelled):
    """Return the gradient on the losses, (T,): what each task weighs."""
    losses = torch.tensor(losses, requires_grad=True)
    weighting(losses, torch.tensor(labelled), SHARED).backward()
    return losses.grad


def test_equal_weights_add_the_losses():
    assert start("equal")(torch.tensor([0.5, 2.0]), BOTH, SHARED) == 2.5


def test_fixed_weights_are_one_where_the_recipe_names_none():
    weighting = start("fixed", weights={"state": 3.0})
    assert weighting(torch.tensor([0.5, 2.0]), BOTH, SHARED) == 6.5


def test_uncertainty_begins_as_the_plain_sum_and_learns_to_trust_the_smaller_loss():
    weighting = start("uncertainty")
    losses = torch.tensor([0.1, 4.0])
    assert weighting(losses, BOTH, SHARED).item() == pytest.approx(4.1)
    descent = torch.optim.SGD(weighting.parameters(), lr=0.1)
    for _ in range(200):
        descent.zero_grad()
        weighting(losses, BOTH, SHARED).backward()
        descent.step()
    # The optimum of exp(-s) L + s / 2 lies at s = log(2 L).
    torch.testing.assert_close(
        weighting.log_variance.detach(), torch.log(2 * losses), atol=1e-2, rtol=0
    )


def test_a_logarithm_weighs_each_loss_by_its_inverse():
    torch.testing.assert_close(
        slopes(start("log"), [0.5, 4.0], [True, True]), torch.tensor([2.0, 0.25])
    )


def test_random_weights_change_at_each_step_and_add_up_to_the_number_of_tasks():
    weighting = start("rlw", THREE)
    drawn = [slopes(weighting, [1.0, 1.0, 1.0], [True] * 3) for _ in range(300)]
    assert not torch.equal(drawn[0], drawn[1])
    assert all(float(weights.sum()) == pytest.approx(3.0, abs=1e-5) for weights in drawn)
    torch.testing.assert_close(torch.stack(drawn).mean(0), torch.ones(3), atol=0.15, rtol=0)


def test_random_weights_of_an_epoch_follow_from_its_seed():
    one, other = start("rlw"), start("rlw")
    first = slopes(one, [1.0, 1.0], [True, True])
    assert torch.equal(first, slopes(other, [1.0, 1.0], [True, True]))


def test_dwa_follows_the_ratio_of_the_last_two_epochs():
    weighting = start("dwa")
    assert slopes(weighting, [1.0, 1.0], [True, True]).tolist() == [1.0, 1.0]
    weighting.end_epoch({"kind": 2.0, "state": 2.0})
    weighting.end_epoch({"kind": 1.0, "state": 2.0})
    grown = torch.tensor([math.exp(0.5 / 2), math.exp(1.0 / 2)])
    torch.testing.assert_close(slopes(weighting, [1.0, 1.0], [True, True]), 2 * grown / grown.sum())


def test_dwa_remembers_the_epochs_that_had_labels():
    weighting = start("dwa")
    weighting.end_epoch({"kind": 2.0, "state": 2.0})
    weighting.end_epoch({"kind": 1.0})
    weighting.end_epoch({"kind": 1.0, "state": 1.0})
    grown = torch.tensor([math.exp(1.0 / 2), math.exp(0.5 / 2)])
    torch.testing.assert_close(slopes(weighting, [1.0, 1.0], [True, True]), 2 * grown / grown.sum())


def test_famo_begins_with_weights_that_are_inverse_to_the_losses():
    torch.testing.assert_close(
        slopes(start("famo"), [0.5, 2.0], [True, True]), torch.tensor([1.6, 0.4])
    )


def test_famo_moves_trust_to_the_task_that_falls_more_slowly():
    weighting = start("famo")
    slopes(weighting, [1.0, 1.0], [True, True])
    slopes(weighting, [0.5, 0.9], [True, True])
    # By hand: scores fall by the step times the softmax's own slope on the falls' logarithms.
    fall = torch.tensor([math.log(2.0), -math.log(0.9)])
    expected = -0.025 * 0.5 * (fall - fall.mean())
    torch.testing.assert_close(weighting.scores, expected)
    assert weighting.scores[1] > weighting.scores[0]


def test_famo_s_scores_rest_while_a_task_has_no_label():
    weighting = start("famo", THREE)
    slopes(weighting, [1.0, 1.0, 1.0], [True, True, True])
    slopes(weighting, [0.2, 0.0, 0.8], [True, False, True])
    assert weighting.scores[1] == 0.0
    assert weighting.previous[1] == 0.0  # the logarithm of its last loss
    assert weighting.scores[0] < 0.0 < weighting.scores[2]


def test_a_bandit_trains_one_labelled_task_a_step():
    weighting = start("bandit", THREE)
    drawn = [slopes(weighting, [1.0, 1.0, 0.0], [True, True, False]) for _ in range(40)]
    assert {tuple(weights.tolist()) for weights in drawn} == {(2.0, 0.0, 0.0), (0.0, 2.0, 0.0)}


def test_a_bandit_comes_to_prefer_the_task_that_is_learnt_from():
    weighting = start("bandit")
    losses = torch.tensor([2.0, 2.0])
    for _ in range(400):
        weights = slopes(weighting, losses.tolist(), [True, True])
        if weights[0] > 0:
            losses[0] *= 0.98
        if losses[0] < 0.02:
            losses[0] = 2.0
    policy = weighting.policy(BOTH)
    assert policy[0] > 0.6
    assert float(policy.sum()) == pytest.approx(1.0, abs=1e-6)
    assert policy.min() >= weighting.exploration / 2 - 1e-6


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_a_task_without_a_label_contributes_nothing(name):
    weighting = start(name)
    losses = torch.tensor([0.7, 5.0], requires_grad=True)
    weighting(losses, torch.tensor([True, False]), SHARED).backward()
    assert losses.grad[0] > 0
    assert losses.grad[1] == 0
    assert all(p.grad is None or p.grad[1] == 0 for p in weighting.parameters())


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_a_batch_without_any_label_teaches_nothing(name):
    weighting = start(name)
    before = {k: v.clone() for k, v in weighting.state_dict().items()}
    losses = torch.zeros(2, requires_grad=True)
    total = weighting(losses, torch.tensor([False, False]), SHARED)
    assert total == 0.0
    total.backward()
    assert losses.grad.tolist() == [0.0, 0.0]
    after = weighting.state_dict()
    assert all(torch.equal(v, after[k]) or v.isnan().all() for k, v in before.items())


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "fixed"])
def test_weights_that_would_do_nothing_are_refused(name):
    with pytest.raises(ConfigurationError, match="'fixed' only"):
        WEIGHTINGS[name](TASKS, {"state": 2.0})


def test_weights_of_tasks_that_do_not_exist_are_refused():
    with pytest.raises(ConfigurationError, match=r"colour.*kind, state"):
        WEIGHTINGS["fixed"](TASKS, {"colour": 1.0})


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_an_epoch_s_end_is_taken_note_of(name):
    WEIGHTINGS[name](TASKS, {}).end_epoch({"state": 1.0})


@pytest.mark.parametrize("name", [*WEIGHTINGS])
def test_processes_decide_by_the_whole_batch(name):
    """Two processes with a half of the batch each take together the step of one with all of it."""
    shared = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    whole = step_of([start(name)], [shared])
    halves = step_of([start(name), start(name)], [shared[:3], shared[3:]])
    torch.testing.assert_close(halves, whole, atol=1e-5, rtol=1e-4)


def step_of(weightings, parts):
    """Return the mean gradient of processes on what lies before the embedding."""
    scale = torch.ones(4, requires_grad=True)
    heads = torch.tensor([[1.0, -2.0, 0.5, 0.3], [-0.7, 1.0, 1.0, 0.2]])
    embeddings = [part * scale for part in parts]
    losses = [((e @ heads.T) ** 2).mean(0) for e in embeddings]
    mean_loss = torch.stack(losses).mean(0).detach()
    grams = []
    for loss, embedding in zip(losses, embeddings, strict=True):
        rows = [torch.autograd.grad(one, embedding, retain_graph=True)[0].flatten() for one in loss]
        grams.append(torch.stack(rows) @ torch.stack(rows).T)
    mean_gram = torch.stack(grams).mean(0)
    log = torch.stack([1.0 / mean_loss, 1.0 / mean_loss], 1)
    total = torch.zeros(())
    for weighting, loss, embedding in zip(weightings, losses, embeddings, strict=True):

        def mean(values, weighting=weighting):
            if values.ndim == 1:
                return mean_loss
            is_log = weighting.__class__.__name__ == "DualBalancing"
            return mean_gram * log * log.T if is_log else mean_gram

        weighting.share_work(mean)
        total = total + weighting(loss, BOTH, embedding) / len(parts)
    return torch.autograd.grad(total, scale)[0]
