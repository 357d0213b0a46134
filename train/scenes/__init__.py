"""Drawn scenes: rooms and house walls with doors and windows that are shut, ajar or open.

They bring what photographs at hand do not: windows open and closed, infra-red night, views from
the ceiling, and a truth that is not a matter of taste.
"""

from train.scenes.clip import ClipTruth, Move, generate_clip
from train.scenes.dataset import generate_dataset

__all__ = ["ClipTruth", "Move", "generate_clip", "generate_dataset"]
