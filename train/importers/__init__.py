"""Data sets in other forms, written as a folder with `dataset.toml`, `labels.csv` and images."""

from train.importers.cifar10 import CIFAR10_KINDS, import_cifar10
from train.importers.folders import import_folders
from train.importers.idx import Digits, import_idx, read_idx
from train.importers.writing import class_name, new_folder
from train.importers.yolo import import_yolo

__all__ = [
    "CIFAR10_KINDS",
    "Digits",
    "class_name",
    "import_cifar10",
    "import_folders",
    "import_idx",
    "import_yolo",
    "new_folder",
    "read_idx",
]
