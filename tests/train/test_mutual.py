import pytest
import torch

from train.corpus import learnable
from train.distill import divergence
from train.engine import Engine
from train.fit import Training, fit
from train.history import Silent
from train.mutual import disagreement
from train.network import predict_logits
from train.recipe import Recipe

SHORT = Recipe(
    backbone="tiny", size=16, embedding=16, batch=8, epochs=6, learning_rate=3e-3, seed=5
)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_disagreement_is_the_mean_divergence_to_the_others():
    said = [{"side": torch.randn(4, 2, requires_grad=True)} for _ in range(3)]
    found = disagreement(said, 1)
    one, _, three = (logits["side"] for logits in said)
    expected = [divergence(said[1]["side"], other).mean() for other in (one, three)]
    torch.testing.assert_close(found, torch.stack(expected).mean()[None])
    found.sum().backward()
    assert said[1]["side"].grad is not None
    assert said[0]["side"].grad is None


def test_without_peers_a_training_is_what_it_was(draw_halves):
    corpus = draw_halves()
    tasks, rows = learnable(corpus)
    training = Training(SHORT, corpus, tasks, rows, Engine.start("float32"))
    assert set(training._modules()) == {"learner0", "average"}


def test_peers_start_apart_and_come_to_agree(draw_halves):
    corpus = draw_halves()
    tasks, rows = learnable(corpus)
    distances = []
    for weight in (0.0, 5.0):
        recipe = SHORT.with_values({"mutual.peers": 1, "mutual.weight": weight})
        training = Training(recipe, corpus, tasks, rows, Engine.start("float32"))
        networks = [training._modules()[name].network for name in ("learner0", "learner1")]
        first, second = (network.state_dict() for network in networks)
        assert any(not torch.equal(value, second[name]) for name, value in first.items())
        for epoch in range(SHORT.epochs):
            training.run_epoch(epoch, Silent())
        said = [predict_logits(network, corpus.split("test").crops)[0] for network in networks]
        distances.append(
            sum(
                float(divergence(torch.from_numpy(said[0][t]), torch.from_numpy(said[1][t])).mean())
                for t in tasks.names
            )
        )
    assert distances[1] < 0.5 * distances[0]


def test_only_the_first_of_the_peers_is_kept(draw_halves, tmp_path):
    recipe = SHORT.with_values({"mutual.peers": 1, "epochs": 1})
    run = fit(recipe, draw_halves(), tmp_path / "run")
    alone = fit(recipe.with_values({"mutual.peers": 0}), draw_halves(), tmp_path / "alone")
    assert run.network().state_dict().keys() == alone.network().state_dict().keys()
