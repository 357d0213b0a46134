"""Workers of one search share a real PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.exc
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tests.conftest import MakeDataset
from tests.train.postgres import USER, Postgres
from tests.train.shared_search import RECIPE, SPACE, STUDY, TRIALS
from train.study import TRIALS as FOLDERS
from train.study import read_search
from train.tune import open_storage
from transom.errors import ConfigurationError

SCRIPT = Path(__file__).with_name("shared_search.py")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def worker(postgres: Postgres, data: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.shared_search", postgres.url, str(data), str(folder)],
        cwd=SCRIPT.parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_workers_share_one_study_in_postgresql(
    postgres: Postgres, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    data = make_dataset(splits=("train", "train", "val"))
    folders = [tmp_path / "one", tmp_path / "two"]
    with worker(postgres, data, folders[0]) as one, worker(postgres, data, folders[1]) as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        storage = open_storage(postgres.url, tmp_path)
        assert isinstance(storage, RDBStorage)
        study = optuna.load_study(study_name=STUDY, storage=storage)
        at_once = study.get_trials(states=(TrialState.RUNNING,))
        for process in (one, two):
            process.communicate("go on\n")
    assert (one.returncode, two.returncode) == (0, 0)

    assert len({trial.number for trial in at_once}) == 2
    found = read_search(study, RECIPE, SPACE, folders[0])
    storage.remove_session()
    storage.engine.dispose()
    assert len(found.complete) >= TRIALS
    assert [trial.number for trial in found.trials] == list(range(len(found.trials)))
    trained = [{run.name for run in (folder / FOLDERS).iterdir()} for folder in folders]
    assert all(trained)
    assert trained[0] | trained[1] == {trial.folder for trial in found.complete}


def test_a_wrong_password_is_said_without_any_password(postgres: Postgres, tmp_path: Path) -> None:
    wrong = f"postgresql+pg8000://{USER}:not-this-one@{postgres.url.partition('@')[2]}"
    with pytest.raises(ConfigurationError, match="--storage: the database cannot be used") as said:
        open_storage(wrong, tmp_path)
    assert "not-this-one" not in str(said.value)


def test_a_driver_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"postgresql\+pg8000"):
        open_storage("postgresql+asyncpg3://nobody@127.0.0.1/none", tmp_path)


def test_what_other_workers_make_at_the_same_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collisions = ["tables", "version of the study", "version of the tables"]

    def collide(*arguments: Any, **keywords: Any) -> RDBStorage:
        if collisions:
            raise sqlalchemy.exc.IntegrityError("INSERT", {}, Exception(collisions.pop()))
        return RDBStorage(*arguments, **keywords)

    monkeypatch.setattr("train.tune.RDBStorage", collide)
    assert isinstance(open_storage("", tmp_path), RDBStorage)
    collisions = ["again"] * 9
    with pytest.raises(ConfigurationError, match="the study cannot be used: again"):
        open_storage("", tmp_path)
