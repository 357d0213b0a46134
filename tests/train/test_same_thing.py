import cv2
import numpy as np
import pytest

from train.same_thing import MIN_POINTS, same_things


def texture(seed: int, size: int = 128):
    """A wall of shapes with corners, as doors with panels, handles and posters have."""
    generator = np.random.default_rng(seed)
    picture = np.full((size, size, 3), generator.integers(60, 200, 3), np.uint8)
    for _ in range(60):
        corner = generator.integers(0, size, 2)
        far = corner + generator.integers(4, size // 4, 2)
        colour = [int(value) for value in generator.integers(0, 256, 3)]
        cv2.rectangle(picture, corner.tolist(), far.tolist(), colour, -1)
    return cv2.GaussianBlur(picture, (3, 3), 0)


def turned(picture, degrees: float = 12.0, scale: float = 1.2):
    side = picture.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, scale)
    return cv2.warpAffine(picture, turn, (side, side), borderMode=cv2.BORDER_REFLECT)


def mirrored(picture):
    return np.ascontiguousarray(picture[:, ::-1])


def in_other_light(picture):
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(np.clip(grey * 0.7 + 25, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)


def near(pairs: int, others: int):
    """Embeddings (2 pairs + others, 8): those of a pair are near, all others apart."""
    generator = np.random.default_rng(0)
    base = generator.normal(0, 1, (pairs + others, 8))
    close = base[:pairs] + generator.normal(0, 0.05, (pairs, 8))
    return np.concatenate([base, close]).astype(np.float32)


@pytest.mark.parametrize("change", [turned, mirrored, in_other_light])
def test_finds_a_copy_whose_pixels_are_elsewhere(change) -> None:
    known = [texture(seed) for seed in range(6)]
    crops = np.stack([*known, change(known[2])])
    embedding = np.concatenate([near(0, 6), near(0, 6)[2:3]])
    (match,) = same_things(crops, embedding, np.array([0] * 6 + [1]))
    assert (match.held, match.known) == (6, 2)
    assert match.points >= MIN_POINTS


def test_a_near_embedding_alone_is_another_door_of_the_same_make() -> None:
    crops = np.stack([texture(seed) for seed in range(7)])
    embedding = np.concatenate([near(0, 6), near(0, 6)[2:3]])
    assert same_things(crops, embedding, np.array([0] * 6 + [1])) == []


def test_what_the_embedding_holds_apart_is_not_compared() -> None:
    known = [texture(seed) for seed in range(6)]
    crops = np.stack([*known, known[2]])
    embedding = np.concatenate([near(0, 6), -near(0, 6)[2:3]])
    assert same_things(crops, embedding, np.array([0] * 6 + [1])) == []


def test_pictures_of_one_side_are_not_compared_and_later_sides_know_all_earlier_ones() -> None:
    first = texture(0)
    crops = np.stack([first, first, mirrored(first), *[texture(seed) for seed in range(1, 4)]])
    embedding = np.concatenate([np.repeat(near(0, 4)[:1], 3, 0), near(0, 4)[1:]])
    assert same_things(crops, embedding, np.zeros(6, np.int64)) == []
    found = same_things(crops, embedding, np.array([0, 1, 2, 0, 0, 0]))
    assert [match.held for match in found] == [1, 2]
    assert found[0].known == 0


def test_flat_pictures_have_no_details() -> None:
    flat = np.full((4, 128, 128, 3), 90, np.uint8)
    embedding = np.repeat(near(0, 2), 2, 0)
    assert same_things(flat, embedding, np.array([0, 1, 0, 1])) == []


def test_no_picture_at_all_is_no_mistake() -> None:
    none = np.zeros((0, 128, 128, 3), np.uint8)
    assert same_things(none, np.zeros((0, 8), np.float32), np.zeros(0, np.int64)) == []
