import numpy as np
import pytest
import torch

from train.losses import TaskLosses
from train.mixing import Mix, Mixed
from train.recipe import Mixing, Recipe
from transom.tasks import Task, TaskSet

TASKS = TaskSet(
    [
        Task(name="kind", classes=("door", "window")),
        Task(name="state", classes=("shut", "ajar", "open")),
    ]
)
TARGETS = torch.tensor([[0, 2], [1, -1], [-1, 0], [-1, -1]])


@pytest.fixture
def image():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 255


@pytest.fixture
def losses():
    return TaskLosses(Recipe(label_smoothing=0.0), TASKS, TARGETS.numpy())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixing_is_off_unless_asked_for_and_then_draws_nothing(image):
    random = generator()
    mixed = Mix(Recipe().mix)(image, random)
    assert mixed.image is image
    assert mixed.partner is None
    assert torch.equal(random.get_state(), generator().get_state())


def test_mixup_lays_each_picture_over_its_partner_by_its_share(image):
    mixed = Mix(Mixing(mixup=0.4))(image, generator())
    share = mixed.share.view(-1, 1, 1, 1)
    expected = share * image + (1 - share) * image[mixed.partner]
    torch.testing.assert_close(mixed.image, expected)
    assert sorted(mixed.partner.tolist()) == [0, 1, 2, 3]


def test_cutmix_puts_a_rectangle_of_the_partner_in_and_shares_by_its_pixels(image):
    mixed = Mix(Mixing(cutmix=1.0))(image, generator(3))
    for row, partner in enumerate(mixed.partner.tolist()):
        own = (mixed.image[row] == image[row]).all(0)
        theirs = (mixed.image[row] == image[partner]).all(0)
        assert (own | theirs).all()
        if partner != row:
            hole = theirs.nonzero()
            assert float(own.float().mean()) == pytest.approx(float(mixed.share[row]))
            if len(hole):
                sides = hole.max(0).values - hole.min(0).values + 1
                assert int(sides.prod()) == len(hole)


def test_with_both_ways_batches_take_either(image):
    mix, random = Mix(Mixing(mixup=1.0, cutmix=1.0)), generator()
    whole_pixels = []
    for _ in range(20):
        mixed = mix(image, random)
        blends = (mixed.image != image) & (mixed.image != image[mixed.partner])
        whole_pixels.append(not blends.any())
    assert 3 <= sum(whole_pixels) <= 17


def test_shares_follow_the_beta_distribution(image):
    mix, random = Mix(Mixing(mixup=2.0)), generator()
    shares = torch.cat([mix(image, random).share for _ in range(500)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / 20, abs=0.01)


def test_the_same_generator_gives_the_same_mixture(image):
    one, other = (Mix(Mixing(mixup=0.3))(image, generator(7)) for _ in range(2))
    assert torch.equal(one.image, other.image)


def test_a_mixture_costs_the_cross_entropy_to_the_mixed_distribution(image, losses):
    logits = {"kind": torch.randn(4, 2), "state": torch.randn(4, 3)}
    targets = torch.tensor([[0, 2], [1, 1], [0, 0], [1, 0]])
    share, partner = torch.tensor([0.3, 0.9, 0.5, 0.0]), torch.tensor([1, 2, 3, 0])
    sums, counts = Mixed(image, partner, share).losses(losses, logits, targets)
    for column, task in enumerate(TASKS):
        hot = torch.nn.functional.one_hot(targets[:, column], len(task.classes)).float()
        mixed = share[:, None] * hot + (1 - share)[:, None] * hot[partner]
        expected = torch.nn.functional.cross_entropy(logits[task.name], mixed, reduction="sum")
        torch.testing.assert_close(sums[column], expected)
    assert counts.tolist() == pytest.approx([4.0, 4.0])


def test_only_the_labelled_part_of_a_mixture_counts(image, losses):
    logits = {"kind": torch.randn(4, 2), "state": torch.randn(4, 3)}
    share, partner = torch.full((4,), 0.75), torch.tensor([2, 3, 0, 1])
    sums, counts = Mixed(image, partner, share).losses(losses, logits, TARGETS)
    # `kind`: rows 0 and 1 for their own share, rows 2 and 3 for what rows 0 and 1 put into them.
    assert counts.tolist() == pytest.approx([2.0, 2.0])
    rows = -logits["kind"].log_softmax(1)
    by_hand = 0.75 * (rows[0, 0] + rows[1, 1]) + 0.25 * (rows[2, 0] + rows[3, 1])
    torch.testing.assert_close(sums[0], by_hand)


def test_a_batch_that_is_not_mixed_costs_what_it_did(image, losses):
    logits = {"kind": torch.randn(4, 2), "state": torch.randn(4, 3)}
    plain, mixed = losses(logits, TARGETS), Mixed(image).losses(losses, logits, TARGETS)
    assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))
    assert np.isfinite(plain[0].numpy()).all()
