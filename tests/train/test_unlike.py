from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ShrunkCovariance
from sklearn.metrics import roc_auc_score

from train.corpus import MISSING
from train.evaluate import label_classes
from train.unlike import MOST_ROWS, NAME, fit_distance, read_distance, reference_rows
from transom.errors import RunError


def clusters(n: int = 600, size: int = 12, seed: int = 0):
    """Embeddings (n, size) of three classes, longest in the same few directions."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 3, n)
    centres = np.random.default_rng(7).normal(0, 3, (3, size))
    stretch = np.linspace(3, 0.1, size)
    points = centres[classes] + generator.normal(0, 1, (n, size)) * stretch
    return points.astype(np.float32), classes


def by_definition(points, classes, embedding):
    """The relative Mahalanobis distance, with scikit-learn's covariances."""
    centres = np.stack([points[classes == name].mean(0) for name in np.unique(classes)])
    within = points - centres[np.unique(classes, return_inverse=True)[1]]
    fits = [
        ShrunkCovariance(shrinkage=0.15, assume_centered=True).fit(part.astype(np.float64))
        for part in (within, points - points.mean(0))
    ]
    inner, outer = ((fit.covariance_ * len(points) / (len(points) - 1)) for fit in fits)
    inner, outer = np.linalg.inv(inner), np.linalg.inv(outer)
    from_centres = embedding[:, None] - centres
    nearest = np.einsum("nkd,de,nke->nk", from_centres, inner, from_centres).min(1)
    from_mean = embedding - points.mean(0)
    return (nearest - np.einsum("nd,de,ne->n", from_mean, outer, from_mean)) / points.shape[1]


def test_it_is_the_relative_mahalanobis_distance() -> None:
    points, classes = clusters()
    others = np.random.default_rng(1).normal(0, 4, (50, 12)).astype(np.float32)
    found = fit_distance(points, classes)(others)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_definition(points, classes, others), rtol=1e-3, atol=1e-3)


def test_it_tells_apart_what_lies_off_the_directions_of_training() -> None:
    points, classes = clusters()
    new, _ = clusters(seed=3)
    others = new.copy()
    others[:, -4:] += 2.0  # little as numbers go, much for directions that hardly vary
    distance = fit_distance(points, classes)
    truth = np.repeat([0, 1], [len(new), len(others)])
    apart = roc_auc_score(truth, np.concatenate([distance(new), distance(others)]))
    lengths = np.concatenate([np.linalg.norm(part, axis=1) for part in (new, others)])
    assert apart > 0.95 > 0.6 > roc_auc_score(truth, lengths)


def test_pictures_of_one_class_have_a_distance_too() -> None:
    points, _ = clusters()
    distance = fit_distance(points, np.zeros(len(points), np.int64))
    assert distance(points + 20).min() > distance(points).max()


def test_classes_of_few_pictures_count_as_one() -> None:
    points, classes = clusters()
    classes[:10] = np.arange(100, 110)
    assert fit_distance(points, classes).linear.shape == (12, 4)
    classes[:10] = np.array([100] * 3 + [0] * 7)
    assert fit_distance(points, classes).linear.shape == (12, 3)


@pytest.mark.parametrize("rows", [0, 1, 49])
def test_too_few_pictures_have_none(rows) -> None:
    points, classes = clusters(rows)
    assert fit_distance(points, classes) is None


def test_pictures_that_all_look_the_same_have_none() -> None:
    assert fit_distance(np.ones((80, 4), np.float32), np.arange(80) % 2) is None


def test_it_is_read_back_as_it_was_written(tmp_path) -> None:
    assert read_distance(tmp_path) is None
    points, classes = clusters()
    written = fit_distance(points, classes)
    written.write(tmp_path)
    np.testing.assert_array_equal(read_distance(tmp_path)(points), written(points))
    (tmp_path / NAME).write_bytes(b"rubbish")
    with pytest.raises(RunError, match=r"distance\.safetensors: cannot be read"):
        read_distance(tmp_path)


def test_rows_are_spread_over_the_groups() -> None:
    groups = [f"g{i // 10}" for i in range(10 * MOST_ROWS)]
    rows = reference_rows(groups)
    assert len(rows) == MOST_ROWS
    assert len({groups[row] for row in rows}) == MOST_ROWS
    assert reference_rows(groups[:5]).tolist() == [0, 1, 2, 3, 4]
    assert len(reference_rows([])) == 0


def test_the_task_that_labels_most_rows_says_what_is_a_class(draw_halves) -> None:
    corpus = draw_halves()
    targets = corpus.targets.copy()
    targets[:20, 0] = MISSING
    found = label_classes(corpus.tasks, replace(corpus, targets=targets))
    np.testing.assert_array_equal(found, targets[:, 1])
    targets[targets[:, 1] != MISSING, 1] = 2  # says the same of every row
    found = label_classes(corpus.tasks, replace(corpus, targets=targets))
    np.testing.assert_array_equal(found, targets[:, 0])
