import math
import tomllib

import pytest

from train.backbones import BACKBONES
from train.fusion import FUSIONS
from train.recipe import Recipe, load_recipe, parse_setting, toml_text
from train.sampling import SAMPLINGS
from train.weighting import WEIGHTINGS
from transom.errors import ConfigurationError


def test_a_recipe_comes_back_from_its_own_toml(tmp_path):
    recipe = Recipe(
        seed=7, learning_rate=1e-05, weighting="fixed", task_weights={"state": 2.0}
    ).with_values({"augment.flip": 0.0})
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml())
    assert load_recipe(file) == recipe


def test_keys_that_a_file_omits_have_their_defaults(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text("epochs = 3\n[augment]\nnoise = 0\n")
    recipe = load_recipe(file)
    assert (recipe.epochs, recipe.size, recipe.augment.noise) == (3, Recipe().size, 0.0)
    assert recipe.augment.flip == Recipe().augment.flip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("epoch = 3", r"unknown key `\$.epoch`, epochs is meant"),
        ("size = 4", "`int` >= 16"),
        ("[augment]\nzoom = 0.1", r"\$.augment.zoom"),
        ("epochs = ", "cannot be read"),
        ("class_weights = true", "balance the classes twice"),
    ],
)
def test_a_mistake_in_a_recipe_names_the_file_and_the_key(tmp_path, text, what):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=what) as raised:
        load_recipe(file)
    assert "mine.toml" in str(raised.value)


def test_a_recipe_that_windows_has_saved_is_read(tmp_path):
    (tmp_path / "recipe.toml").write_bytes(b"\xef\xbb\xbfepochs = 3\r\n")
    assert load_recipe(tmp_path / "recipe.toml").epochs == 3


def test_a_recipe_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.toml: no such file"):
        load_recipe(tmp_path / "none.toml")


def test_the_run_table_of_a_run_is_not_part_of_its_recipe(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(Recipe(epochs=2).to_toml() + '\n[run]\ncreated = "now"\n')
    assert load_recipe(file) == Recipe(epochs=2)


def test_the_digest_follows_every_key():
    assert Recipe().digest == Recipe().digest
    assert Recipe().digest != Recipe(seed=1).digest
    assert Recipe().digest != Recipe().with_values({"augment.blur": 0.0}).digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=3", ("epochs", 3)),
        ("augment.flip = 0.5", ("augment.flip", 0.5)),
        ("backbone=tiny", ("backbone", "tiny")),
        ("pretrained=false", ("pretrained", False)),
        ("weighting=a=b", ("weighting", "a=b")),
    ],
)
def test_a_setting_is_read_as_toml_or_else_as_text(text, expected):
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_a_setting_without_key_or_equals_is_refused(text):
    with pytest.raises(ValueError, match="key=value"):
        parse_setting(text)


def test_setting_an_unknown_key_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"unknown key `\$.augment.flop`, flip is meant\?; known: "
    ):
        Recipe().with_values({"augment.flop": 1})
    with pytest.raises(ConfigurationError, match="not a table"):
        Recipe().with_values({"epochs.now": 1})


def test_toml_text_quotes_what_needs_quotes():
    tree = {"plain": 'say "hi"\n', "two words": [1, True], "small": 1e-05, "t": {"é": {}}}
    text = toml_text(tree)
    assert tomllib.loads(text) == tree
    assert math.isclose(tomllib.loads(text)["small"], 1e-05)


def test_the_default_recipe_names_only_what_is_registered():
    recipe = Recipe()
    assert recipe.backbone in BACKBONES
    assert recipe.fusion in FUSIONS
    assert recipe.weighting in WEIGHTINGS
    assert recipe.sampling in SAMPLINGS


@pytest.mark.parametrize("registry", [BACKBONES, FUSIONS, WEIGHTINGS, SAMPLINGS])
def test_an_unknown_name_is_answered_with_the_known_ones(registry):
    with pytest.raises(ConfigurationError, match=registry.names[0]):
        registry["no such thing"]


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="twice"):
        FUSIONS.add("hard", FUSIONS["hard"])
