import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transom.few_shot import Examples, Head, learn

D, C = 24, 3
NOTHING = Examples(
    np.zeros((0, D), np.float32), np.zeros((0, C), np.float32), np.zeros((0, C), bool)
)

Floats = npt.NDArray[np.float32]


def bundle(embedding: Floats) -> Floats:
    """What a bundle says: the first three numbers are its logits."""
    logits = np.exp(embedding[:, :C] - embedding[:, :C].max(axis=1, keepdims=True))
    return np.asarray(logits / logits.sum(axis=1, keepdims=True), np.float32)


def examples(embedding: Floats, labels: npt.NDArray[np.int64]) -> Examples:
    return Examples(embedding, bundle(embedding), np.eye(C, dtype=bool)[labels])


def places(seed: int, n: int = 30) -> Examples:
    """Pictures of many doors, which the bundle gets right but for one in five."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % C
    embedding = random.normal(0, 1, (n, D)).astype(np.float32)
    embedding[np.arange(n), labels] += 3.0
    shown = np.where(np.arange(n) % 5 == 0, (labels + 1) % C, labels)
    return examples(embedding, shown)


def camera(seed: int, a_class: int, classes: int = C) -> Examples:
    """Pictures of one door, far from the others, which is always `closed` to the bundle."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), a_class)
    embedding = random.normal(0, 0.4, (len(labels), D)).astype(np.float32)
    embedding[:, 0] += 3.0
    embedding[:, 10:16] += 2.0
    embedding[np.arange(len(labels)), 20 + labels] += 2.0
    return examples(embedding, labels)


def test_one_example_a_class_turns_a_zone_that_the_bundle_gets_wrong() -> None:
    head = learn(camera(0, 1), places(0))
    assert isinstance(head, Head)
    unseen = camera(1, 40)
    assert unseen.count_right(unseen.probabilities) == 40
    assert unseen.count_right(head(unseen.probabilities, unseen.embedding)) > 0.8 * len(unseen)


def test_more_examples_teach_more() -> None:
    unseen = camera(99, 60)
    right = []
    for count in (1, 5, 20):
        heads = [learn(camera(seed, count), places(0)) for seed in range(5)]
        answers = [h(unseen.probabilities, unseen.embedding) for h in heads if isinstance(h, Head)]
        assert len(answers) == 5
        right.append(np.mean([unseen.count_right(said) for said in answers]))
    assert right == sorted(right)


def test_probabilities_are_probabilities() -> None:
    head, unseen = learn(camera(0, 3), places(0)), camera(1, 5)
    assert isinstance(head, Head)
    said = head(unseen.probabilities, unseen.embedding)
    assert said.dtype == np.float32
    assert np.allclose(said.sum(axis=1), 1.0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.booleans())
def test_a_head_is_never_worse_than_the_bundle_alone(
    seed: int, count: int, has_guard: bool
) -> None:
    random = np.random.default_rng(seed)
    embedding = random.normal(0, 1, (count, D)).astype(np.float32)
    taught = examples(embedding, random.integers(0, C, count))  # labels that make no sense
    guard = places(seed) if has_guard else NOTHING
    head = learn(taught, guard)
    if isinstance(head, Head):
        for known in (taught, guard):
            said = head(known.probabilities, known.embedding)
            assert known.count_right(said) >= known.count_right(known.probabilities)
    else:
        assert head in ("few", "examples", "guard")


def test_one_label_alone_teaches_nothing() -> None:
    taught = camera(0, 5, classes=1)
    assert learn(taught, places(0)) == "few"


def test_labels_that_may_mean_the_same_teach_nothing() -> None:
    taught = camera(0, 5, classes=1)
    vague = Examples(taught.embedding, taught.probabilities, np.zeros((5, C), bool))
    vague.truth[:, 2] = True  # open
    vague.truth[3:, 1] = True  # ajar or open
    assert learn(vague, places(0)) == "few"
    vague.truth[4] = (True, False, False)
    assert isinstance(learn(vague, places(0)), Head)


def test_a_lesson_that_contradicts_the_guard_is_refused() -> None:
    right = np.array([1, 2, 3])
    guard = examples(places(0).embedding[right], right % C)
    assert guard.count_right(guard.probabilities) == 3
    # The guard's own pictures, said a hundred times to show another class than they do.
    turned = examples(np.repeat(guard.embedding, 100, axis=0), np.repeat((right + 1) % C, 100))
    assert learn(turned, guard) == "guard"
    assert isinstance(learn(turned, NOTHING), Head)


def test_it_is_enough_to_know_that_a_zone_is_not_closed() -> None:
    taught = camera(0, 4)
    vague = Examples(taught.embedding, taught.probabilities, taught.truth.copy())
    vague.truth[4:] = (False, True, True)
    head = learn(vague, places(0))
    assert isinstance(head, Head)
    unseen = camera(1, 40)
    said = head(unseen.probabilities, unseen.embedding).argmax(axis=1)
    assert (said[:40] == 0).mean() > 0.9
    assert (said[40:] != 0).mean() > 0.9


def test_labels_weigh_the_same_however_often_each_was_given() -> None:
    many, few = camera(0, 20), camera(1, 1)
    both = np.concatenate([many.embedding[:20], few.embedding])
    taught = examples(both.astype(np.float32), np.r_[np.zeros(20, int), 0, 1, 2])
    head = learn(taught, places(0))
    assert isinstance(head, Head)
    unseen = camera(2, 40)
    said = head(unseen.probabilities, unseen.embedding).argmax(axis=1)
    for label in range(C):
        assert (said[40 * label : 40 * label + 40] == label).mean() > 0.6


def test_the_fit_is_the_least_of_what_it_minimises() -> None:
    """Against scikit-learn, which minimises the same without guard and balance."""
    from sklearn.linear_model import LogisticRegression

    from transom.few_shot import STRENGTH

    taught = camera(3, 4)
    even = Examples(taught.embedding, np.full((12, C), 1 / C, np.float32), taught.truth)
    head = learn(even, NOTHING)
    assert isinstance(head, Head)
    labels = np.repeat(np.arange(C), 4)
    embedding = taught.embedding.astype(np.float64)
    centre = np.mean([embedding[labels == k].mean(axis=0) for k in range(C)], axis=0)
    spread = np.sqrt(((embedding - centre) ** 2).sum(axis=1).mean())
    features = np.c_[(embedding - centre) / spread, np.ones(12)]
    theirs = LogisticRegression(C=1 / STRENGTH, fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected = theirs.fit(features, labels).predict_proba(features)
    assert head(even.probabilities, even.embedding) == pytest.approx(expected, abs=1e-3)


def test_a_picture_is_like_the_examples_only_where_it_is_near_one() -> None:
    head = learn(camera(0, 5), places(0))
    assert isinstance(head, Head)
    assert head.is_like_examples(camera(0, 5).embedding).all()
    assert head.is_like_examples(camera(1, 20).embedding).mean() > 0.5
    assert not head.is_like_examples(places(0).embedding).any()
