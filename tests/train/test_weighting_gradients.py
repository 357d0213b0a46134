import builtins

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.weighting import WEIGHTINGS
from train.weighting.gradients import (
    project_on_dual_cone,
    project_on_simplex,
    solve_cagrad,
    solve_nash,
)
from transom.errors import ConfigurationError
from transom.tasks import Task, TaskSet

NAMES = ("pcgrad", "mgda", "aligned", "upgrad", "nash", "cagrad", "db")


def tasks(count):
    return TaskSet([Task(name=f"t{i}", classes=("no", "yes")) for i in range(count)])


def combined(name, gradients, labelled=None):
    """Return the step (D,) on a shared vector whose losses have these gradients (T, D)."""
    gradients = torch.tensor(gradients)
    shared = torch.ones(gradients.shape[1], requires_grad=True)
    losses = gradients @ shared
    losses = losses - losses.detach() + 1.0
    weighting = WEIGHTINGS[name](tasks(len(gradients)), {})
    weighting.begin_epoch(0)
    chosen = torch.tensor(labelled or [True] * len(gradients))
    weighting(losses, chosen, shared).backward()
    return shared.grad


CONFLICT = [[1.0, 0.0], [-0.6, 0.8]]
HARMONY = [[1.0, 0.2], [0.2, 1.0]]
THREE = [[1.0, 0.1, 0.0], [-0.5, 1.0, 0.2], [0.2, -0.4, 2.0]]


def test_pcgrad_projects_each_gradient_on_the_other_s_normal_plane():
    # By hand: g1 - (g1 g2 / g2 g2) g2 = (0.64, 0.48); g2 without its part along g1 = (0, 0.8).
    torch.testing.assert_close(combined("pcgrad", CONFLICT), torch.tensor([0.64, 1.28]))


def test_pcgrad_adds_gradients_without_a_conflict():
    torch.testing.assert_close(combined("pcgrad", HARMONY), torch.tensor([1.2, 1.2]))


def test_mgda_takes_the_shortest_mean():
    # By hand: both gradients have length 1, so the shortest mean is halfway; times two tasks.
    torch.testing.assert_close(combined("mgda", CONFLICT), torch.tensor([0.4, 0.8]))


def test_upgrad_is_the_mean_of_the_projections_on_the_dual_cone():
    torch.testing.assert_close(combined("upgrad", CONFLICT), torch.tensor([0.64, 1.28]))
    torch.testing.assert_close(combined("upgrad", HARMONY), torch.tensor([1.2, 1.2]))


def test_upgrad_agrees_with_the_example_of_its_authors():
    # torchjd's documentation: this Jacobian aggregates to (0.2929, 1.9004, 1.9004).
    found = combined("upgrad", [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    torch.testing.assert_close(found / 2, torch.tensor([0.2929, 1.9004, 1.9004]), atol=2e-3, rtol=0)


def test_aligned_gradients_are_orthogonal_and_of_one_length():
    matrix = torch.tensor(THREE).double()
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    expected = (s.min() * u @ vh).sum(0).float()
    torch.testing.assert_close(combined("aligned", THREE), expected, atol=1e-4, rtol=1e-4)


def test_nash_gives_every_task_the_same_relative_gain():
    matrix = torch.tensor(THREE).double()
    step = combined("nash", THREE).double()
    weights = torch.linalg.solve(matrix @ matrix.T, matrix @ step)
    gains = (matrix @ step) * weights
    torch.testing.assert_close(gains, gains.mean().expand(3), rtol=1e-4, atol=0)
    assert float(weights.sum()) == pytest.approx(3.0, abs=1e-4)


def test_nash_lets_orthogonal_gradients_count_by_their_inverse_length():
    step = combined("nash", [[2.0, 0.0], [0.0, 0.5]])
    torch.testing.assert_close(step, torch.tensor([0.8, 0.8]), atol=1e-4, rtol=0)


def test_cagrad_solves_its_problem_as_well_as_a_fine_grid():
    matrix = torch.tensor(THREE[:2]).double()
    gramian = matrix @ matrix.T
    mean = torch.full((2,), 0.5).double()

    def cost(w):
        reach = 0.4 * (mean @ gramian @ mean).sqrt()
        return float(w @ gramian @ mean + reach * (w @ gramian @ w).sqrt())

    grid = [torch.tensor([x, 1 - x]).double() for x in np.linspace(0, 1, 2001)]
    assert cost(solve_cagrad(gramian, 0.4)) <= min(map(cost, grid)) + 1e-9


def test_cagrad_stays_within_its_radius_of_the_mean():
    matrix = torch.tensor(THREE)
    mean = matrix.mean(0)
    step = combined("cagrad", THREE) / 3
    assert float((step - mean).norm()) == pytest.approx(0.4 * float(mean.norm()), rel=1e-4)
    assert (matrix @ step).min() > (matrix @ mean).min()


def test_dual_balancing_makes_the_gradients_as_long_as_the_longest():
    torch.testing.assert_close(
        combined("db", [[3.0, 0.0], [0.0, 0.5]]), torch.tensor([3.0, 3.0]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_a_label_does_not_move_the_others_step(name):
    two = combined(name, THREE[:2])
    without_the_third = combined(name, THREE, [True, True, False])
    torch.testing.assert_close(without_the_third, two)


@pytest.mark.parametrize("name", NAMES)
def test_one_task_alone_takes_its_own_step(name):
    step = combined(name, THREE, [False, True, False])
    torch.testing.assert_close(step, torch.tensor(THREE[1]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_of_zero_breaks_nothing(name):
    step = combined(name, [[1.0, 2.0], [0.0, 0.0]])
    assert step.isfinite().all()
    assert step[1] == pytest.approx(2 * float(step[0]), rel=1e-3)


@pytest.mark.parametrize("name", [*NAMES, "equal"])
def test_heads_are_trained_by_their_own_task_alone(name):
    shared_from = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    trunk = torch.eye(3, requires_grad=True)
    heads = [torch.tensor([1.0, -1.0, 0.5], requires_grad=True) for _ in range(2)]
    shared = shared_from @ trunk
    losses = torch.stack(
        [((shared @ head - place) ** 2).mean() for place, head in enumerate(heads)]
    )
    expected = torch.autograd.grad(losses.sum(), heads, retain_graph=True)
    weighting = WEIGHTINGS[name](tasks(2), {})
    weighting.begin_epoch(0)
    weighting(losses, torch.tensor([True, True]), shared).backward()
    scale = 1 / losses.detach() if name == "db" else torch.ones(2)
    for head, gradient, factor in zip(heads, expected, scale, strict=True):
        torch.testing.assert_close(head.grad, gradient * factor)
    assert trunk.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_head_that_does_not_read_the_embedding_is_refused(name):
    shared = torch.ones(1, 3, requires_grad=True)
    own = torch.ones(1, 2, requires_grad=True)
    weighting = WEIGHTINGS[name](tasks(2), {})
    weighting.check_shared({"t0": shared[:, :2] * 2, "t1": shared[:, 1:] * 2}, shared)
    with pytest.raises(ConfigurationError, match="'t1' does not read the shared embedding"):
        weighting.check_shared({"t0": shared[:, :2] * 2, "t1": own * 2}, shared)


def test_without_torchjd_the_message_says_what_to_install(monkeypatch):
    whole = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.startswith("torchjd"):
            raise ModuleNotFoundError(name=name)
        return whole(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"transom\[methods\]"):
        WEIGHTINGS["pcgrad"](tasks(2), {})


matrices = st.integers(2, 5).flatmap(
    lambda count: st.lists(
        st.lists(st.floats(-3, 3), min_size=6, max_size=6), min_size=count, max_size=count
    )
)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_a_dual_cone_s_projection_is_optimal(rows):
    matrix = torch.tensor(rows, dtype=torch.float64) + 0.5 * torch.eye(len(rows), 6).double()
    gramian = matrix @ matrix.T
    if float(torch.linalg.eigvalsh(gramian)[0]) < 1e-2:
        return
    least = torch.eye(len(rows), dtype=torch.float64)[0]
    v = project_on_dual_cone(least, gramian)
    slope = gramian @ v
    assert (v >= least).all()
    assert (slope >= -1e-4 * gramian.diagonal().max()).all()
    assert float(((v - least) * slope).abs().max()) <= 1e-3 * float(gramian.diagonal().max())


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_a_bargain_is_where_gains_times_weights_are_one(rows):
    matrix = torch.tensor(rows, dtype=torch.float64) + 0.5 * torch.eye(len(rows), 6).double()
    gramian = matrix @ matrix.T
    if float(torch.linalg.eigvalsh(gramian)[0]) < 1e-2:
        return
    weights = solve_nash(gramian)
    assert (weights > 0).all()
    torch.testing.assert_close(
        weights * (gramian @ weights), torch.ones(len(rows)).double(), atol=1e-2, rtol=0
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6))
def test_a_simplex_s_projection_is_the_nearest_point(values):
    point = torch.tensor(values, dtype=torch.float64)
    found = project_on_simplex(point)
    assert float(found.sum()) == pytest.approx(1.0)
    assert (found >= 0).all()
    # Nearest: no corner lies in the direction from there to the point.
    away = point - found
    assert (away @ (torch.eye(len(values)).double() - found).T <= 1e-9).all()
