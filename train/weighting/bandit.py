"""A bandit that chooses which task the next step trains, rewarded by how much it was learnt."""

from collections.abc import Mapping

import torch

from train.weighting.weighting import WEIGHTINGS, LossWeighting, labelled_softmax
from transom.tasks import TaskSet

_TINY = 1e-8


@WEIGHTINGS.named("bandit")
class Bandit(LossWeighting):
    """EXP3.S over tasks: those on which a step teaches most are trained more often.

    A step trains one task that has labels in the batch, drawn by the policy, and as strongly as
    all of them together with equal weights. Its reward is the fall of the logarithm of its loss
    to the next batch that has labels of it, so nothing is computed twice; rewards are scaled to
    -1 to 1 between the quantiles 0.2 and 0.8 of those so far.

    References:
        Graves et al., Automated Curriculum Learning for Neural Networks, ICML 2017, algorithm 1.
        Its step is 0.001 for millions of draws; ours is larger, for thousands.
    """

    exploration = 0.05
    step = 0.05
    scores: torch.Tensor
    chosen: torch.Tensor
    chance: torch.Tensor
    previous: torch.Tensor
    rewards: torch.Tensor
    draws: torch.Tensor

    def __init__(self, tasks: TaskSet, weights: Mapping[str, float]) -> None:
        super().__init__(tasks, weights)
        self.register_buffer("scores", torch.zeros(len(tasks)))
        self.register_buffer("chosen", torch.zeros(len(tasks), dtype=torch.bool))
        self.register_buffer("chance", torch.ones(len(tasks)))
        self.register_buffer("previous", torch.zeros(len(tasks)))
        self.register_buffer("rewards", torch.full((256,), torch.nan))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def weigh(self, losses: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """Settle rewards that are due, draw a task, and give it the weight of all labelled."""
        logs = losses.clamp(min=_TINY).log()
        for place in (self.chosen & labelled).nonzero()[:, 0].tolist():
            self._settle(place, float(self.previous[place] - logs[place]))
        policy = self.policy(labelled)
        place = int(torch.multinomial(policy.cpu(), 1, generator=self.random))
        self.chosen[place], self.chance[place] = True, policy[place]
        self.previous[place] = logs[place]
        weights = torch.zeros_like(losses)
        weights[place] = labelled.sum()
        return weights

    def policy(self, labelled: torch.Tensor) -> torch.Tensor:
        """Return the probability of drawing each task, (T,), 0 for those without labels."""
        explore = labelled / labelled.sum()
        trust = labelled_softmax(self.scores, labelled)
        return (1.0 - self.exploration) * trust + self.exploration * explore

    def _settle(self, place: int, gain: float) -> None:
        self.chosen[place] = False
        self.rewards[int(self.draws) % len(self.rewards)] = gain
        self.draws += 1
        seen = self.rewards[~self.rewards.isnan()]
        low, high = torch.quantile(seen, torch.tensor([0.2, 0.8]).to(seen))
        scaled = (2.0 * (gain - low) / (high - low).clamp(min=_TINY) - 1.0).clamp(-1.0, 1.0)
        if high <= low:
            scaled = torch.zeros_like(low)
        scores = self.scores.clone()
        scores[place] += self.step * scaled / self.chance[place]
        self.scores.copy_(self._forgetful(scores))

    def _forgetful(self, scores: torch.Tensor) -> torch.Tensor:
        """Give each task a share of the others' trust, less as draws go by, so that it can rise."""
        if len(scores) < 2:
            return scores
        share = 1.0 / float(self.draws + 1)
        trust = scores.softmax(0)
        mixed = (1.0 - share) * trust + share * (1.0 - trust) / (len(scores) - 1)
        return mixed.clamp(min=_TINY).log()
