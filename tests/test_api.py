"""The Python face: plain PyTorch objects in, a trained module out."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import fedray
from fedray.experiment import build, launchers
from fedray.experiment.build import Config
from fedray.run import driver as run_module
from fedray.run import models as run_models
from fedray.run.driver import Run


def silos(folder: Path) -> tuple[list[Path], Path]:
    """Two CSV silos and a test table with a learnable target."""
    draw = np.random.default_rng(1)
    paths = [folder / name for name in ("a.csv", "b.csv", "test.csv")]
    for path, rows in zip(paths, (40, 25, 30), strict=True):
        x = draw.standard_normal((rows, 3))
        lines = [f"{a},{b},{c},{'yes' if a + b > 0 else 'no'}" for a, b, c in x]
        path.write_text("\n".join(["u,v,w,ill", *lines]) + "\n")
    return paths[:2], paths[2]


ARGS = fedray.TrainArgs(batch_size=8, rounds=15)
VIEWS = ("train", "global")


def train(folder: Path, args: fedray.TrainArgs = ARGS, **changes: object) -> fedray.Result:
    """The call of the README, on small tables."""
    train_paths, test_path = silos(folder)
    model = fedray.FederatedModel(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)),
        lambda params: torch.optim.SGD(params, lr=0.3),
        nn.functional.cross_entropy,
    )
    data = fedray.FederatedData.from_csv(train_paths, test=test_path, target="ill")
    arguments = {"cluster": "inline", "run_dir": folder / "run", "progress": False, **changes}
    return fedray.train(model, data, args, **arguments)  # type: ignore[arg-type]


def test_a_model_is_trained_and_everything_is_in_the_run_folder(tmp_path: Path) -> None:
    result = train(tmp_path, algorithm=fedray.FedProx(mu=0.01), cluster=fedray.Cluster("inline", threads=2))
    assert [record.round for record in result.history] == list(range(1, 16))
    assert result.history[-1].test["accuracy"] > 0.85
    assert result.run_dir == tmp_path / "run"
    saved = load_file(result.run_dir / "model.safetensors")
    assert all(saved[name].equal(tensor) for name, tensor in result.model.state_dict().items())
    assert json.loads((result.run_dir / "summary.json").read_text())["status"] == "finished"
    assert len((result.run_dir / "metrics.jsonl").read_text().splitlines()) == 15
    config = (result.run_dir / "config.yaml").read_text()
    assert "mu: 0.01" in config
    assert "threads: 2" in config


def of_clients(folder: Path, rounds: int = 5, lr: float = 0.1, resume: bool = False, **options: Any) -> fedray.Result:
    """A run of three hospitals, of which the second takes part in every other round."""
    draw = np.random.default_rng(0)
    x, y, owner = draw.standard_normal((60, 4)), draw.integers(0, 3, 60), np.repeat(["north", "south", "west"], 20)
    data = fedray.FederatedData.from_arrays(x.astype("f4"), y, owner).with_holdout(0.3, 0)
    left_out = {round: ["south"] for round in range(1, 20, 2)}
    args = fedray.TrainArgs(rounds, evaluate_clients_every=2, left_out=left_out, tracking=[], **options)
    model, run_dir = fedray.FederatedModel("logistic", {"name": "sgd", "lr": lr}), folder / "run"
    return fedray.train(model, data, args, cluster="inline", run_dir=run_dir, resume=resume, progress=False)


def test_what_each_client_got_is_a_table_that_agrees_with_the_records(tmp_path: Path) -> None:
    result = of_clients(tmp_path)
    rows = result.clients().to_pylist()
    assert rows == fedray.read_clients(result.run_dir).to_pylist()
    due = [record for record in result.history if record.clients_test]
    assert [record.round for record in due] == [2, 4, 5]
    for record in due:
        views = {view: [row for row in rows if (row["round"], row["view"]) == (record.round, view)] for view in VIEWS}
        assert [row["client"] for row in views["global"]] == ["north", "south", "west"]
        trained = ["north", "west"] if record.round % 2 else ["north", "south", "west"]
        assert [row["client"] for row in views["train"]] == trained
        assert sum(row["examples"] for row in views["train"]) == record.examples
        for view, metric, mean in (
            ("train", "loss", record.train["loss"]),
            *(("global", name, spread["mean"]) for name, spread in record.clients_test.items()),
        ):
            values, weights = zip(*((row[metric], row["examples"]) for row in views[view]), strict=True)
            assert np.average(values, weights=weights) == pytest.approx(mean, rel=1e-12)
    assert len(rows) == 3 * 6 - 1


def test_more_rounds_of_a_run_leave_the_table_of_one_that_had_them_from_the_start(tmp_path: Path) -> None:
    """The evaluation after the last round is none that is due once it is not the last."""
    whole = of_clients(tmp_path / "whole", 7)
    of_clients(tmp_path / "parts", 5)
    parts = of_clients(tmp_path / "parts", 7, resume=True)
    assert parts.clients().equals(whole.clients())
    assert sorted(set(parts.clients()["round"].to_pylist())) == [2, 4, 6, 7]


def test_the_model_before_training_may_be_the_best(tmp_path: Path) -> None:
    """It is kept and exported, and patience counts from it, also by who goes on."""
    options = {"evaluate_before": True, "checkpoint_best": "clients_test.loss", "stop_patience": 3}
    whole, parts = (
        [
            of_clients(tmp_path / name, rounds, lr=300.0, resume=resume, stop_metric="clients_test.loss", **options)
            for rounds, resume in lengths
        ]
        for name, lengths in (("whole", [(9, False)]), ("parts", [(2, False), (9, True)]))
    )
    for result in (whole[-1], parts[-1]):
        summary = json.loads((result.run_dir / "summary.json").read_text())
        assert (summary["status"], summary["best"]["round"]) == ("early_stopped", 0)
        first, *others = result.history
        assert first.clients_test["loss"]["mean"] == summary["best"]["value"]
        assert [record.round for record in others if record.clients_test] == [2, 4, 6]
        assert (result.run_dir / "best.safetensors").read_bytes() != (result.run_dir / "model.safetensors").read_bytes()
    assert (whole[-1].run_dir / "best.safetensors").read_bytes() == (
        parts[-1].run_dir / "best.safetensors"
    ).read_bytes()


def test_what_is_said_of_the_data_is_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,ill\n1,no\n2,yes\n")
    (tmp_path / "b.csv").write_text("u,ill\n1,no\n2,yse\n")
    data = fedray.FederatedData.from_csv([tmp_path / "a.csv", tmp_path / "b.csv"], target="ill")
    model = fedray.FederatedModel(lambda: nn.Linear(1, 3))
    fedray.train(model, data, fedray.TrainArgs(rounds=1), cluster="inline", run_dir=tmp_path / "run", progress=False)
    assert f"WARNING {data.warnings[0]}" in (tmp_path / "run" / "log.txt").read_text()


def test_the_callers_random_numbers_and_threads_are_left_alone(tmp_path: Path) -> None:
    torch.default_generator.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_run_works_outside_the_main_thread(tmp_path: Path) -> None:
    results: list[fedray.Result] = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path)))
    thread.start()
    thread.join()
    assert len(results[0].history) == 15


def test_a_signal_that_comes_late_finds_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = run_models.write_model

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(run_module, "write_model", interrupted)
    assert not train(tmp_path).stopped


@pytest.mark.parametrize("where", ["made_module", "InlineExecutor"])
def test_ctrl_c_before_the_first_round_leaves_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While the model is built, or while the workers start."""
    module = build if where == "made_module" else launchers
    original = getattr(module, where)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **named)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(module, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert capfd.readouterr().err == "fedray: stopped before the run began\n"
    assert not (tmp_path / "run").exists()
    assert len(train(tmp_path).history) == 15


def test_a_used_run_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(fedray.ConfigError, match=r"already holds a run; go on with `fedray\.train\(\.\.\., run_dir="):
        train(tmp_path)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_a_run_that_cannot_start_leaves_its_folder_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise fedray.ConfigError("nobody answers")

    with monkeypatch.context() as cluster:
        cluster.setattr(Run, "records", refused)
        with pytest.raises(fedray.ConfigError, match="nobody answers"):
            train(tmp_path)
    assert not (tmp_path / "run").exists()
    assert len(train(tmp_path).history) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Linear(3, 2), "data"), r"^model: a fedray\.FederatedModel is needed, such as .*; this is a Linear$"),
        (("model", (np.ones((4, 3)), np.ones(4))), r"^data: a fedray\.FederatedData is needed, .*; this is a tuple$"),
        (("model", None), r"^data: a fedray\.FederatedData is needed, .*; this is a NoneType$"),
        (("model", "data", {"rounds": 3}), r"^args: a fedray\.TrainArgs is needed, .*; this is a dict$"),
    ],
)
def test_the_likeliest_first_mistakes_say_what_is_needed(
    tmp_path: Path, arguments: tuple[Any, ...], message: str
) -> None:
    train_paths, _ = silos(tmp_path)
    known = {
        "model": fedray.FederatedModel(lambda: nn.Linear(3, 2)),
        "data": fedray.FederatedData.from_csv(train_paths, target="ill"),
    }
    given = [known.get(one, one) if isinstance(one, str) else one for one in arguments]
    with pytest.raises(fedray.ConfigError, match=message):
        fedray.train(*given, cluster="inline", run_dir=tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_dir": 3}, r"^run_dir: the path of a folder is needed; this is an int$"),
        (
            {"resume": "runs/first"},
            r"^resume: True or False is needed, got 'runs/first'; the folder goes into run_dir$",
        ),
    ],
)
def test_a_folder_goes_into_run_dir(options: dict[str, Any], message: str) -> None:
    model, data = fedray.FederatedModel("logistic"), fedray.FederatedData.from_arrays([[0.0], [1.0]], [0, 1], [0, 0])
    with pytest.raises(fedray.ConfigError, match=message):
        fedray.train(model, data, cluster="inline", **options)


def test_tables_in_memory_are_no_files() -> None:
    with pytest.raises(
        fedray.ConfigError, match=r"the path of a file is needed, got an object of type dict; .*from_arrays\(x, y"
    ):
        fedray.FederatedData.from_csv([{"u": [1.0]}], target="u")  # type: ignore[list-item]


def test_parts_may_be_named_as_in_a_config(tmp_path: Path) -> None:
    """The same run twice: by objects, and by names alone, which the command line can go on with."""
    train_paths, test_path = silos(tmp_path)
    options = {"cluster": "inline", "progress": False}
    by_name = fedray.train(
        fedray.FederatedModel("logistic", {"name": "sgd", "lr": 0.3}, "cross_entropy"),
        {"name": "csv", "train": [str(path) for path in train_paths], "test": str(test_path), "target": "ill"},
        fedray.TrainArgs(rounds=3),
        algorithm={"name": "fedprox", "mu": 0.1},
        server={"name": "adam", "lr": 0.01},
        transforms=["clip"],
        run_dir=tmp_path / "names",
        **options,  # type: ignore[arg-type]
    )
    by_object = fedray.train(
        fedray.FederatedModel(
            lambda: nn.Sequential(OrderedDict(flatten=nn.Flatten(), head=nn.Linear(3, 2))),
            lambda params: torch.optim.SGD(params, lr=0.3),
            nn.functional.cross_entropy,
        ),
        fedray.FederatedData.from_csv(train_paths, test=test_path, target="ill"),
        fedray.TrainArgs(rounds=3),
        algorithm=fedray.FedProx(mu=0.1),
        server=fedray.server.Adam(lr=0.01),
        transforms=[fedray.Clip()],
        run_dir=tmp_path / "objects",
        **options,  # type: ignore[arg-type]
    )
    assert [r.model_sha256 for r in by_name.history] == [r.model_sha256 for r in by_object.history]
    assert Config.load(tmp_path / "names" / "config.yaml").algorithm == fedray.FedProx(mu=0.1)
    written = yaml.safe_load((tmp_path / "objects" / "config.yaml").read_text())
    assert next(iter(written)) == "python"
    assert written["python"]["local.loss"] == "torch.nn.functional.cross_entropy"
    assert set(written["python"]) == {"data", "model", "local.optimizer", "local.loss"}


def test_an_option_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(fedray.ConfigError, match=r"^optimizer: given twice, in FederatedModel\(optimizer_fn=\) and"):
        train(tmp_path, fedray.TrainArgs(optimizer={"name": "adam"}))


def test_a_model_that_is_none_says_so(tmp_path: Path) -> None:
    train_paths, _ = silos(tmp_path)
    data = fedray.FederatedData.from_csv(train_paths, target="ill")
    with pytest.raises(fedray.ConfigError, match=r"model_fn: it must return an nn\.Module, got int"):
        fedray.train(fedray.FederatedModel(lambda: 3), data, cluster="inline", run_dir=tmp_path / "run")  # type: ignore[arg-type,return-value]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("target", "head", "loss", "words"),
    [
        ([0.5, 1.0, 1.5, 2.0], nn.Flatten(0), None, r"model: it gives \(2,\) for targets \(2, 1\)"),
        (
            [0, 1, 0, 2],
            nn.Flatten(0),
            lambda output, y: nn.functional.mse_loss(output, y.float()),
            r"metrics: accuracy fails on outputs \(2,\) and targets \(2,\)",
        ),
    ],
)
def test_an_output_that_only_the_loss_takes_is_refused(
    target: list[float], head: nn.Module, loss: Any, words: str, tmp_path: Path
) -> None:
    """Squared error broadcasts ``[B]`` against ``[B, 1]``, and evaluation needs a logit for each class."""
    x = np.ones((4, 3), dtype="f4")
    data = fedray.FederatedData.from_arrays(x, np.array(target), [0, 0, 1, 1], test=(x, np.array(target)))
    model = fedray.FederatedModel(lambda: nn.Sequential(nn.Linear(3, 1), head), loss_fn=loss)
    with pytest.raises(fedray.ConfigError, match=words):
        fedray.train(model, data, cluster="inline", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_of_its_own_may_take_more_than_the_target_has(tmp_path: Path) -> None:
    """Mean and variance for one number; there is no test set to be evaluated."""
    data = fedray.FederatedData.from_arrays(np.ones((4, 3), dtype="f4"), np.arange(4) / 4, [0, 0, 1, 1])

    def gaussian(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.gaussian_nll_loss(output[:, :1], y, output[:, 1:].exp())

    model = fedray.FederatedModel(lambda: nn.Linear(3, 2), loss_fn=gaussian)
    result = fedray.train(model, data, fedray.TrainArgs(rounds=1), cluster="inline", run_dir=tmp_path / "run")
    assert result.history[0].clients["ok"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rounds": 0}, r"^rounds=0: it must be at least 1$"),
        ({"rounds": 2.5}, r"^rounds: .*2\.5"),
        ({"epochs": -1}, r"^local: epochs=-1"),
        ({"batch_size": 0}, r"^local: batch_size=0: it must be at least 1"),
        ({"batch_size": "16"}, r"^local: batch_size='16': it must be at least 1"),
        ({"steps": -1}, r"^local: steps=-1"),
        ({"stack": "on"}, r"^local: stack=on: it must be auto, off, at least 1, lanes, or lanes:8$"),
        ({"precision": "fp16"}, r"^local\.precision: .*fp16"),
        ({"buffers": "average"}, r"^local\.buffers: .*average"),
        ({"on_failure": "Abort"}, r"^failures\.on_failure: .*Abort"),
        ({"on_nonfinite": "skip"}, r"^failures\.on_nonfinite: .*skip"),
        ({"min_share": 2.0}, r"^failures: min_share=2\.0"),
        ({"left_out": [3]}, r"^failures\.left_out: expected a section with keys"),
        ({"evaluate_clients_every": -1}, r"^evaluate: every=1, clients_every=-1: they must be at least 0$"),
        ({"checkpoint_every": "often"}, r"^checkpoint\.every: .*often"),
        ({"keep": 0}, r"^checkpoint: .*keep at least 1$"),
        ({"gpu_hours": 0.0}, r"^budget: gpu_hours=0\.0"),
    ],
)
def test_a_wrong_argument_is_named_where_it_is_given(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(fedray.ConfigError, match=message):
        fedray.TrainArgs(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "rey"}, r"^cluster\.name: .*rey"),
        ({"workers": 0}, r"^cluster: workers=0: it must be at least 1, or auto$"),
        ({"placement": "packed"}, r"^cluster\.placement: .*packed"),
        ({"threads": 0}, r"^worker: threads=0: it must be from 1 to 10000$"),
        ({"gpus": 1.5}, r"^worker: gpus=1\.5"),
        ({"driver_gpus": -1.0}, r"^driver: gpus=-1: it must be from 0 to 10000$"),
    ],
)
def test_a_wrong_cluster_is_named_where_it_is_given(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(fedray.ConfigError, match=message):
        fedray.Cluster(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithm": fedray.FedAvg(weight="unifrom")}, r"^algorithm\.weight: .*unifrom"),  # type: ignore[arg-type]
        ({"algorithm": fedray.FedAdam(variant="pytorch")}, r"^algorithm\.variant: .*pytorch"),  # type: ignore[arg-type]
        ({"transforms": fedray.Clip()}, r"^transforms: a list is needed, .* this is a Clip$"),
        ({"algorithm": "fedprx"}, r"^algorithm\.name: unknown algorithm 'fedprx' \(did you mean 'fedprox'\?\)"),
        ({"algorithm": {"name": "fedprox", "mi": 1}}, r"^algorithm\.mi: unknown key \(did you mean 'mu'\?\)"),
        ({"algorithm": fedray.Mean()}, r"^algorithm: expected an algorithm, such as fedray\.FedAvg\(\), .*type Mean$"),
        ({"aggregator": fedray.Mean}, r"^aggregator: expected an aggregator, such as fedray\.Mean\(\), .*class Mean$"),
        ({"sampler": 3}, r"^sampler\.name: a sampler is needed; known: full"),
        ({"sampler": fedray.Uniform("both")}, r"^sampler\.clients: .*both"),  # type: ignore[arg-type]
        (
            {"transforms": [fedray.Clip(1.0), fedray.TopK(0.5, error_feedback="maybe")]},  # type: ignore[arg-type]
            r"^transforms\[1\]\.error_feedback: .*maybe",
        ),
        ({"cluster": "in line"}, r"^cluster\.name: .*in line"),
        ({"cluster": "slurm"}, r"^cluster\.name: slurm runs in a Slurm job"),
    ],
)
def test_a_part_with_a_wrong_option_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], message: str
) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(fedray.ConfigError, match=message):
        train(tmp_path, **wrong)
    assert not (tmp_path / "run").exists()
