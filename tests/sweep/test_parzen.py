"""Settings that Optuna draws: the same for any order of runs, and after a kill between two draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.sweep import Search, Sweep
from fedray.sweep.parzen import JOURNAL, with_next_batch
from fedray.sweep.stages import next_stage
from tests.cli.command import SMALL
from tests.sweep.pretended import ROUNDS, pretend

AXES = [
    "local.optimizer.lr={log_uniform: [1e-4, 1]}",
    "local.epochs={integers: [1, 8]}",
    "algorithm.name=fedavg,fedsam",
]


class Killed(BaseException):
    """An end that nothing catches."""


def made(folder: Path, **options: Any) -> Sweep:
    """A search of a small config, begun or gone on with."""
    (folder / "small.yaml").write_text(SMALL.replace("rounds: 3", f"rounds: {ROUNDS}"))
    given: dict[str, Any] = {"trials": 12, "sampler": "tpe", "by": "test.loss", "batch": 3} | options
    sweep = Sweep.of(folder / "small.yaml", AXES, folder / "sweep", Search(**given)).continued()
    sweep.begin()
    return sweep


def loss(setting: dict[str, str], round: int) -> float | None:
    """Least at lr = 0.1 with few epochs; fedsam with many epochs fails."""
    epochs = int(setting["local.epochs"])
    if setting["algorithm.name"] == "fedsam" and epochs == 8 and round > 3:
        return None
    return abs(float(setting["local.optimizer.lr"]) - 0.1) + epochs / 10 + 1 / round


def searched(sweep: Sweep, backwards: bool = False) -> Sweep:
    """The search done to its end."""
    failed = set[str]()
    while True:
        stage = next_stage(sweep, failed)
        if stage is None:
            more = with_next_batch(sweep)
            if more is sweep:
                return sweep
            sweep = more
            sweep.begin()
            continue
        for cell in reversed(stage.cells) if backwards else stage.cells:
            pretend(stage, cell, loss)
            failed |= {cell.name} if stage.sweep.status(cell) == "failed" else set()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return searched(made(tmp_path_factory.mktemp("whole"), rungs=(3,)))


def test_settings_do_not_depend_on_who_ends_first(whole: Sweep, tmp_path: Path) -> None:
    assert [len(batch) for batch in whole.batches] == [3, 3, 3, 3]
    assert searched(made(tmp_path, rungs=(3,)), backwards=True).batches == whole.batches
    assert Sweep.at(tmp_path / "sweep") is not None


def test_a_kill_between_two_draws_changes_nothing(
    whole: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    ask, asked = optuna.Study.ask, []

    def killed(self: Any, *arguments: Any) -> Any:
        asked.append(1)
        if len(asked) == 6:
            raise Killed
        return ask(self, *arguments)

    monkeypatch.setattr(optuna.Study, "ask", killed)
    with pytest.raises(Killed):
        searched(made(tmp_path, rungs=(3,)))
    assert searched(made(tmp_path, rungs=(3,))).batches == whole.batches


def test_optuna_is_told_what_became_of_each(whole: Sweep) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(whole.folder / JOURNAL)))
    trials = optuna.load_study(study_name="fedray", storage=storage).trials
    states = {trial.state.name for trial in trials}
    assert {"COMPLETE", "PRUNED"} <= states <= {"COMPLETE", "PRUNED", "FAIL"}
    for trial, setting in zip(trials, (one for batch in whole.batches for one in batch), strict=True):
        assert float(dict(setting)["local.optimizer.lr"]) == pytest.approx(trial.params["local.optimizer.lr"], rel=1e-5)
        if trial.state.name == "PRUNED":
            assert list(trial.intermediate_values) == [3]


def test_another_search_in_the_folder_is_refused(whole: Sweep) -> None:
    with pytest.raises(ConfigError, match="holds a search with factor 3, not 2"):
        made(whole.folder.parent, rungs=(3,), factor=2)
    more = made(whole.folder.parent, rungs=(3,), trials=13)
    assert more.batches == whole.batches
    assert with_next_batch(more).batches[:4] == whole.batches
