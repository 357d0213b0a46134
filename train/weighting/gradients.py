"""Weightings that compare the tasks' gradients and take a step that suits all of them.

The gradients are those on the embedding, which every task's head reads. They cost one short pass
through the heads for each task, and none through the trunk; what these methods decide follows
from the gradients' inner products alone, a small (T, T) matrix (the Gramian). Each head is
trained by its own task as ever; only what goes on into the embedding and the trunk is combined.

The rules of PCGrad, MGDA, Aligned-MTL and UPGrad come from torchjd, an optional package. Nash-MTL
and CAGrad are our own, because torchjd's need general convex solvers for what are problems in a
handful of variables; docs/adr/0006 has the reasons.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch

from train.weighting.weighting import WEIGHTINGS, Weighting
from transom.errors import ConfigurationError
from transom.tasks import TaskSet

_CLOSE = 1e-9  # relative: where the solvers below stop
_ROUNDS = 1000  # more than any of them needs on matrices that are not degenerate


class GradientWeighting(Weighting):
    """Combines the tasks' gradients on the embedding by weights from their Gramian."""

    def check_shared(self, logits: Mapping[str, torch.Tensor], shared: torch.Tensor) -> None:
        """Refuse a network with a head that does not read the embedding.

        Raises:
            ConfigurationError: It has one.
        """
        for name, values in logits.items():
            total = values.sum()
            if torch.autograd.grad(total, shared, retain_graph=True, allow_unused=True)[0] is None:
                raise ConfigurationError(
                    f"recipe: task {name!r} does not read the shared embedding, on which this "
                    "weighting compares gradients; say fusion = 'hard' without late maps, or "
                    "choose another weighting"
                )

    def combine(
        self, losses: torch.Tensor, labelled: torch.Tensor, shared: torch.Tensor
    ) -> torch.Tensor:
        """Return a scalar with each loss's own gradient in its head and the combined one below."""
        places = labelled.nonzero()[:, 0].tolist()
        objectives = self.objectives(losses)[places]
        total = objectives.sum()
        if len(places) < 2 or not shared.requires_grad:
            return total
        gradients = torch.stack(
            [
                torch.autograd.grad(one, shared, retain_graph=True)[0].flatten().float()
                for one in objectives
            ]
        )
        # Rows of the embedding lie with the processes, so the sum of their Gramians is the one
        # of the whole batch, and their mean is that up to a factor.
        gramian = self.mean(gradients @ gradients.T)
        weights = self.weigh(gramian.double().cpu()).to(gradients)
        correction = ((weights - 1.0) @ gradients).view_as(shared).to(shared.dtype)
        moved = (correction * shared).sum(dtype=torch.float32)
        return total + moved - moved.detach()

    def objectives(self, losses: torch.Tensor) -> torch.Tensor:
        """Return (T,) what is to be minimised of each task; the losses, unless overridden."""
        return losses

    @abstractmethod
    def weigh(self, gramian: torch.Tensor) -> torch.Tensor:
        """Return the weights of the labelled tasks' gradients, (L,) float64, about 1 each.

        Args:
            gramian: (L, L) float64 on the CPU, inner products of the L gradients.
        """


class Torchjd(GradientWeighting):
    """A rule of torchjd on the Gramian.

    Args:
        tasks: What is balanced.
        weights: Refused unless empty.
        make: From torchjd's module of aggregations to its rule.
        is_mean: The rule gives about the mean of the gradients: weights grow by the task count.
    """

    def __init__(
        self,
        tasks: TaskSet,
        weights: Mapping[str, float],
        make: Callable[[Any], Callable[[torch.Tensor], torch.Tensor]],
        *,
        is_mean: bool,
    ) -> None:
        super().__init__(tasks, weights)
        try:
            from torchjd import aggregation
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "recipe: this weighting needs the package torchjd; install the extra `methods`: "
                "pip install 'transom[methods]'"
            ) from error
        self._rule = make(aggregation)
        self._is_mean = is_mean

    def weigh(self, gramian: torch.Tensor) -> torch.Tensor:
        """Ask torchjd, with random numbers of our own generator."""
        if gramian.diagonal().min() <= 0.0:
            return torch.ones(len(gramian), dtype=gramian.dtype)
        with torch.random.fork_rng(devices=[]):
            seed = torch.randint(2**62, (1,), generator=self.random)
            torch.manual_seed(int(seed))
            weights = self._rule(gramian)
        return weights * len(gramian) if self._is_mean else weights


@WEIGHTINGS.named("pcgrad")
def pcgrad(tasks: TaskSet, weights: Mapping[str, float]) -> Weighting:
    """Take from each gradient what goes against another, then add.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020.
    """
    return Torchjd(tasks, weights, lambda jd: jd.PCGradWeighting(), is_mean=False)


@WEIGHTINGS.named("mgda")
def mgda(tasks: TaskSet, weights: Mapping[str, float]) -> Weighting:
    """Take the shortest mean of the gradients, which goes against none.

    References:
        Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018.
    """
    return Torchjd(tasks, weights, lambda jd: jd.MGDAWeighting(), is_mean=True)


@WEIGHTINGS.named("aligned")
def aligned(tasks: TaskSet, weights: Mapping[str, float]) -> Weighting:
    """Make the gradients orthogonal and of one length, as little changed as that allows.

    References:
        Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023.
    """
    return Torchjd(tasks, weights, lambda jd: jd.AlignedMTLWeighting(), is_mean=True)


@WEIGHTINGS.named("upgrad")
def upgrad(tasks: TaskSet, weights: Mapping[str, float]) -> Weighting:
    """Move each gradient to where it goes against none, as near as can be, then average.

    References:
        Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv:2406.16232.
    """
    rule = _upgrad_rule
    return Torchjd(tasks, weights, rule, is_mean=True)


def _upgrad_rule(jd: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from torchjd.linalg import DualConeProjector

    class Projector(DualConeProjector):
        """In place of torchjd's own, which needs a solver under the GPL."""

        def __call__(self, U: torch.Tensor, G: torch.Tensor) -> torch.Tensor:  # noqa: N803
            return torch.stack([project_on_dual_cone(row, G) for row in U])

    rule: Callable[[torch.Tensor], torch.Tensor] = jd.UPGradWeighting(projector=Projector())
    return rule


@WEIGHTINGS.named("nash")
class NashBargaining(GradientWeighting):
    """The agreement at which no task could gain more, in proportion, than others would lose.

    References:
        Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022: weights a with
        G a = 1 / a. That is where a G a / 2 - sum log a, which is convex, is least: Newton's
        method finds it in a few steps, where the paper solves a row of convex programs.
    """

    def weigh(self, gramian: torch.Tensor) -> torch.Tensor:
        """Return the agreement's weights, scaled to a sum of L."""
        weights = solve_nash(gramian)
        return weights * (len(weights) / weights.sum())


@WEIGHTINGS.named("cagrad")
class ConflictAverse(GradientWeighting):
    """Near the mean gradient, the step that helps most the task that it helps least.

    References:
        Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, with
        the radius c of 0.4 of its experiments on pictures.
    """

    radius = 0.4

    def weigh(self, gramian: torch.Tensor) -> torch.Tensor:
        """Return L times the mean's weights and those of the correction."""
        count = len(gramian)
        mean_length = float(gramian.mean().clamp(min=0.0).sqrt())
        worst = solve_cagrad(gramian, self.radius)
        length = math.sqrt(max(float(worst @ gramian @ worst), 0.0))
        if length <= _CLOSE * math.sqrt(float(gramian.diagonal().max())):
            return torch.ones_like(worst)
        return 1.0 + count * self.radius * mean_length / length * worst


def solve_nash(gramian: torch.Tensor) -> torch.Tensor:
    """Return a > 0, (L,) float64, with G a = 1 / a.

    Args:
        gramian: (L, L) float64, positive semidefinite. A little is added to its diagonal, so that
            gradients which cancel out do not ask for endless weights.
    """
    scale = float(gramian.diagonal().max())
    if scale <= 0.0:
        return torch.ones(len(gramian), dtype=gramian.dtype)
    matrix = gramian / scale + 1e-6 * torch.eye(len(gramian), dtype=gramian.dtype)
    a = matrix.diagonal().rsqrt()
    for _ in range(_ROUNDS):
        slope = matrix @ a - 1.0 / a
        step = torch.linalg.solve(matrix + torch.diag(a**-2), -slope)
        # The function is self-concordant: this damping never leaves a > 0 and always converges.
        decrement = math.sqrt(max(-float(slope @ step), 0.0))
        a = a + step / (1.0 + decrement)
        if decrement < _CLOSE:
            break
    return a / math.sqrt(scale)


def solve_cagrad(gramian: torch.Tensor, radius: float) -> torch.Tensor:
    """Return the w of the simplex, (L,) float64, where w G m + c |g_m| sqrt(w G w) is least.

    Args:
        gramian: (L, L) float64, positive semidefinite; m is the mean's weights, 1 / L each.
        radius: c.
    """
    count = len(gramian)
    w = torch.full((count,), 1.0 / count, dtype=gramian.dtype)
    scale = float(gramian.diagonal().max())
    if scale <= 0.0:
        return w
    matrix = gramian / scale
    towards_mean = matrix @ w
    reach = radius * math.sqrt(max(float(w @ towards_mean), 0.0))

    def cost(w: torch.Tensor) -> torch.Tensor:
        return w @ towards_mean + reach * (w @ matrix @ w + 1e-12).sqrt()

    step = 1.0
    for _ in range(_ROUNDS):
        slope = towards_mean + reach * (matrix @ w) / (w @ matrix @ w + 1e-12).sqrt()
        now = cost(w)
        while True:
            moved = project_on_simplex(w - step * slope)
            change = moved - w
            if cost(moved) <= now + slope @ change + change @ change / (2 * step) or step < 1e-12:
                break
            step /= 2.0
        w = moved
        if float(change.abs().max()) < _CLOSE:
            break
        step *= 1.5
    return w


def project_on_simplex(point: torch.Tensor) -> torch.Tensor:
    """Return the nearest point with no negative entry and sum 1, (L,).

    References:
        Duchi et al., Efficient Projections onto the l1-Ball, ICML 2008.
    """
    falling = point.sort(descending=True).values
    excess = (falling.cumsum(0) - 1.0) / torch.arange(1, len(point) + 1, dtype=point.dtype)
    last = int((falling > excess).sum()) - 1
    return (point - excess[last]).clamp(min=0.0)


def project_on_dual_cone(least: torch.Tensor, gramian: torch.Tensor) -> torch.Tensor:
    """Return the v >= `least`, (L,), where v G v is least, by descent along one axis at a time.

    Args:
        least: (L,) lower bounds.
        gramian: (L, L), positive semidefinite, with a diagonal above 0.
    """
    v = least.clone()
    for _ in range(_ROUNDS):
        before = v.clone()
        for i in range(len(v)):
            v[i] = torch.maximum(least[i], v[i] - gramian[i] @ v / gramian[i, i])
        if float((v - before).abs().max()) <= _CLOSE * float(v.abs().max()):
            break
    return v
