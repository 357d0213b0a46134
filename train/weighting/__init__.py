"""How the losses of several tasks become one number to descend; by name in `WEIGHTINGS`.

Equal weights are the default, because tuned scalarisation is not beaten by methods that look at
each task's gradient (Xin et al. and Kurin et al., both NeurIPS 2022).
"""

from train.weighting import bandit, constant, gradients, logarithm, progress, uncertainty
from train.weighting.weighting import WEIGHTINGS, LossWeighting, MakeWeighting, Weighting

__all__ = [
    "WEIGHTINGS",
    "LossWeighting",
    "MakeWeighting",
    "Weighting",
    "bandit",
    "constant",
    "gradients",
    "logarithm",
    "progress",
    "uncertainty",
]
