"""What does not fit is said before anything starts; a model that is made once serves as well as one made each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray import optim
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.data import DataSpec
from fedray.experiment.build import Config
from fedray.experiment.given import GivenModel
from fedray.experiment.preflight import check_fit, taken_for_positive
from fedray.local.program import ClientProgram
from fedray.local.task import LocalTask
from fedray.local.trial import profile_of
from fedray.metrics import F1, Sensitivity
from fedray.metrics.measures import measured
from fedray.run.evaluation import rows_at_once
from fedray.tasks import Classification
from tests.helpers import class_problem, local_task

X = np.random.default_rng(0).standard_normal((24, 5)).astype("f4")
DATA = fedray.FederatedData.from_partition(X, (X[:, 0] > 0).astype(int), fedray.IID(clients=4), seed=0)


def train(run_dir: Path, model: fedray.FederatedModel, **options: Any) -> fedray.Result:
    args = fedray.TrainArgs(rounds=2, batch_size=4, tracking=[], **options)
    return fedray.train(model, DATA, args, cluster="inline", run_dir=run_dir, progress=False)


@pytest.mark.parametrize("stack", [2, "off"])
def test_a_function_may_give_one_module_again_and_again(stack: Any, tmp_path: Path) -> None:
    """It is where training starts, and nobody trains it; the run is that of a function that copies it."""
    module = nn.Linear(5, 2).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def copied() -> nn.Module:
        fresh = nn.Linear(5, 2)
        fresh.load_state_dict(before)
        return fresh

    same = train(tmp_path / "same", fedray.FederatedModel(lambda: module), stack=stack)
    fresh = train(tmp_path / "fresh", fedray.FederatedModel(copied), stack=stack)
    assert [r.model_sha256 for r in same.history] == [r.model_sha256 for r in fresh.history]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert not torch.equal(same.model.state_dict()["weight"], before["weight"])


class Remembering(nn.Linear):
    def __init__(self) -> None:
        super().__init__(5, 2)

    def get_extra_state(self) -> str:
        return "a note"


CLASS: Any = nn.CrossEntropyLoss


def constant(output: torch.Tensor, target: torch.Tensor) -> Any:
    return 1.0


def broken() -> nn.Module:
    raise OSError("no such weights")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), "sgd", CLASS),
            r"^local\.loss: a function is needed, this is a class: give CrossEntropyLoss\(\)$",
        ),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), "sgd", constant),
            r"^local\.loss: it must give a tensor with one number, got a float$",
        ),
        (lambda: fedray.FederatedModel(nn.Linear(5, 2)), r"^model_fn: a function is needed, .* this is a Linear$"),
        (
            lambda: fedray.FederatedModel(nn.Identity, torch.optim.SGD(nn.Linear(5, 2).parameters())),  # type: ignore[arg-type]
            r"^optimizer_fn: a function is needed, .* this is a SGD$",
        ),
        (lambda: fedray.FederatedModel(broken), r"^model: it cannot be made: OSError: no such weights$"),
        (lambda: fedray.FederatedModel(lambda: nn.LazyLinear(2)), r"^model: weight has no shape .* nn\.LazyLinear"),
        (lambda: fedray.FederatedModel(Remembering), r"^model: _extra_state is state that is no tensor"),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), torch.optim.LBFGS),
            r"^optimizer: LBFGS needs several gradients for a step",
        ),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), lambda p: torch.optim.SGD(p, lr=-1.0)),
            r"^optimizer: it cannot be made: ValueError: .*-1\.0",
        ),
        (
            lambda: fedray.FederatedModel(lambda: nn.Linear(5, 2), lambda p: p),  # type: ignore[arg-type,return-value]
            r"^optimizer: a torch\.optim\.Optimizer is needed, this is a list$",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(
    make: Callable[[], fedray.FederatedModel], message: str, tmp_path: Path
) -> None:
    with pytest.raises(fedray.ConfigError, match=message):
        train(tmp_path / "run", make())
    assert not (tmp_path / "run").exists()


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def clients_of(*sizes: int) -> fedray.FederatedData:
    x = np.random.default_rng(1).standard_normal((sum(sizes), 5)).astype("f4")
    return fedray.FederatedData.from_arrays(x, (x[:, 0] > 0).astype(int), np.repeat(range(len(sizes)), sizes))


def trained(run_dir: Path, sizes: tuple[int, ...], make: Callable[[], nn.Module] = normed, **options: Any) -> Any:
    options = {"rounds": 2, "batch_size": 4, "tracking": [], **options}
    return fedray.train(
        fedray.FederatedModel(make), clients_of(*sizes), fedray.TrainArgs(**options), cluster="inline", run_dir=run_dir,
        progress=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        (
            (5, 8, 9),
            {},
            r"last_batch=keep: the last batch of 2 of 3 clients \(the first is '0'\) has one row.*merge",
        ),
        ((5, 1, 9), {"on_failure": "drop"}, r"2 of 3 clients .*; 1 more have one row in all$"),
        ((8, 1, 8), {}, r"^data: 1 of 3 clients \(the first is '1'\) have one row to train on.*on_failure=drop$"),
        ((8, 8), {"batch_size": 1}, r"^local.batch_size=1: the model cannot train on a single row \(ValueError: Expec"),
    ],
)
def test_a_batch_of_one_row_that_cannot_be_trained_on_is_known_before_the_start(
    sizes: tuple[int, ...], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(fedray.ConfigError, match=message):
        trained(tmp_path / "run", sizes, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("last_batch", ["merge", "drop"])
def test_merged_or_dropped_it_trains(last_batch: str, tmp_path: Path) -> None:
    result = trained(tmp_path, (5, 8, 9), last_batch=last_batch)
    assert [record.clients["ok"] for record in result.history] == [3, 3]
    assert [record.examples for record in result.history] == [22 if last_batch == "merge" else 20] * 2


def test_who_has_one_row_in_all_is_given_up_if_that_is_asked_for_and_it_is_said(tmp_path: Path) -> None:
    result = trained(tmp_path, (8, 1, 8), on_failure="drop")
    assert [record.clients["failed"] for record in result.history] == [1, 1]
    assert "1 of 3 clients (the first is '1') have one row to train on" in (tmp_path / "log.txt").read_text()


def test_a_single_row_is_no_matter_to_other_models_or_to_steps_that_do_not_come_to_it(tmp_path: Path) -> None:
    assert trained(tmp_path / "plain", (5, 1), make=lambda: nn.Linear(5, 2)).history
    assert trained(tmp_path / "two", (9, 5), steps=1).history  # of each pass the first batch alone


def regression(targets: Any) -> fedray.FederatedData:
    return fedray.FederatedData.from_arrays(X, targets, np.repeat(range(4), 6), test=(X, targets))


def run_on(data: fedray.FederatedData, model: fedray.FederatedModel, run_dir: Path) -> fedray.Result:
    args = fedray.TrainArgs(rounds=2, batch_size=4, tracking=[])
    return fedray.train(model, data, args, cluster="inline", run_dir=run_dir, progress=False)


@pytest.mark.parametrize("loss", [None, nn.MSELoss(), nn.L1Loss(), nn.functional.smooth_l1_loss, nn.HuberLoss()])
def test_an_output_that_would_be_broadcast_against_the_targets_is_refused(loss: Any, tmp_path: Path) -> None:
    data = regression((X[:, 0] > 0).astype("f4"))
    with pytest.raises(fedray.ConfigError, match=r"gives \(2, 3\) for targets \(2, 1\).*give them as integers"):
        run_on(data, fedray.FederatedModel(lambda: nn.Linear(5, 3), loss_fn=loss), tmp_path / "run")
    run_on(data, fedray.FederatedModel(lambda: nn.Linear(5, 1), loss_fn=loss), tmp_path / "run")
    assert "whole numbers from 0 to 1" in (tmp_path / "run" / "log.txt").read_text()


def test_a_loss_may_take_two_outputs_for_a_target(tmp_path: Path) -> None:
    """Mean and variance, say; the squared error of such outputs means nothing, and is not told."""

    def likelihood(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        mean, log = output[:, :1], output[:, 1:]
        return ((y - mean).square() * torch.exp(-log) + log).mean()

    result = run_on(regression(X[:, :1]), fedray.FederatedModel(lambda: nn.Linear(5, 2), loss_fn=likelihood), tmp_path)
    assert list(result.history[-1].test) == ["loss"]


@pytest.mark.parametrize("void", [-100, 255])
def test_pixels_that_do_not_count_are_refused_with_what_to_do(void: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 1, 4, 4)).astype("f4")
    y = (x[:, 0] > 0).astype(int)
    y[:, 0, 0] = void
    loss = nn.CrossEntropyLoss(ignore_index=void)
    model = fedray.FederatedModel(lambda: nn.Conv2d(1, 2, 3, padding=1), loss_fn=loss)
    with pytest.raises(fedray.ConfigError, match=r"; positions that do not count .* ignore_index: 255\}$"):
        run_on(fedray.FederatedData.from_arrays(x, y, np.repeat(range(2), 4)), model, tmp_path)
    y[:, 0, 0] = 255
    task = {"name": "segmentation", "ignore_index": 255}
    model = fedray.FederatedModel(lambda: nn.Conv2d(1, 2, 3, padding=1), task=task)
    run_on(fedray.FederatedData.from_arrays(x, y, np.repeat(range(2), 4)), model, tmp_path)


def test_an_update_out_of_range_is_told_with_what_to_scale(tmp_path: Path) -> None:
    data = regression(2e5 + 5e4 * X[:, :1])
    with pytest.raises(fedray.RunFailed, match=r"lower the learning rate, or scale the inputs and the targets"):
        run_on(data, fedray.FederatedModel(lambda: nn.Linear(5, 1), lambda p: torch.optim.SGD(p, lr=9.0)), tmp_path)


def test_statistics_of_inputs_on_a_raw_scale_are_no_diverging_update(tmp_path: Path) -> None:
    data = fedray.FederatedData.from_arrays(X * 3e6, (X[:, 0] > 0).astype(int), np.repeat(range(4), 6))
    model = fedray.FederatedModel(lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2)))
    result = run_on(data, model, tmp_path / "some")
    assert float(result.model.state_dict()["0.running_var"].max()) > 1e11
    far = fedray.FederatedData.from_arrays(X * 1e12, (X[:, 0] > 0).astype(int), np.repeat(range(4), 6))
    with pytest.raises(fedray.RunFailed, match=r"the largest change is that of 0\.running_var; scale the inputs"):
        run_on(far, model, tmp_path / "far")


def test_the_model_of_a_result_is_in_evaluation_mode_and_its_history_whole(tmp_path: Path) -> None:
    model = fedray.FederatedModel(lambda: nn.Sequential(nn.Linear(5, 2), nn.Dropout(0.5)))

    def go(rounds: int, resume: bool = False) -> fedray.Result:
        args = fedray.TrainArgs(rounds=rounds, tracking=[])
        return fedray.train(model, DATA, args, cluster="inline", run_dir=tmp_path, resume=resume, progress=False)

    first = go(2)
    assert not first.model.training
    for rounds, resumed in ((4, True), (4, True)):
        result = go(rounds, resumed)
        assert [record.round for record in result.history] == [1, 2, 3, 4]
        assert [r.model_sha256 for r in result.history[:2]] == [r.model_sha256 for r in first.history]


class OnGpus(nn.Module):
    """Runs where its inputs are on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            raise RuntimeError("fused kernel: expected a CUDA tensor")
        output: Tensor = self.layer(x)
        return output


def test_a_model_for_gpus_alone_is_refused_where_cpus_train_and_warned_of_where_gpus_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = class_problem(model_fn=OnGpus, test=5)
    task = LocalTask(
        problem.model_fn,
        optim.SGD(0.1),
        problem.loss_fn,
        problem.data,
        Layout.of(problem.model_fn()),
        LocalSection(),
        ClientProgram(),
        0,
    )
    with pytest.raises(ConfigError, match=r"^model: it does not take the data .*expected a CUDA tensor"):
        check_fit(task, problem.model_fn(), evaluated=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said, measured, _ = check_fit(task, problem.model_fn(), True, torch.device("cuda", 0))
    assert measured is None
    assert said == (
        "model: it was not tried, as it does not run on this machine's CPU: RuntimeError: fused kernel: expected a "
        "CUDA tensor"
    )
    assert rows_at_once("auto", problem.model_fn(), torch.zeros(2, 6)) == 1024


def test_a_program_that_cannot_be_tried_without_a_gpu_is_refused_in_one_line_and_plain_fits_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    problem = class_problem(model_fn=OnGpus, test=5)

    def config(algorithm: str) -> Config:
        model = GivenModel(problem.model_fn)
        said = {"rounds": 2, "worker": {"gpus": 1}, "cluster": {"name": "ray"}, "algorithm": algorithm}
        return Config.bind("gpus", {}, {**said, "data": problem.data, "model": model})

    plan = config("fedavg").plan()
    assert any("it does not run on this machine's CPU" in line for line in plan.warnings)
    with pytest.raises(ConfigError) as raised:
        config("ditto").plan()
    assert str(raised.value) == (
        "algorithm: the clients of ditto are tried before a run, to see what they send and keep, and the model does "
        "not run on this machine's CPU: start the run on a machine with a GPU, give the model a way to run on a CPU, "
        "or take an algorithm whose clients only train, such as fedavg"
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    "algorithm", [fedray.FedAvg(), fedray.Ditto(), fedray.Scaffold(), fedray.Mime(), fedray.FedAMP()]
)
def test_a_model_for_gpus_alone_trains_on_one(algorithm: Algorithm, tmp_path: Path) -> None:
    """Its program is tried there, too, with a survey, and rows of single clients."""
    problem = class_problem(model_fn=OnGpus, test=5)
    model = fedray.FederatedModel(OnGpus, None, problem.loss_fn)
    place = fedray.Cluster("inline", gpus=1.0)
    result = fedray.train(
        model, problem.data, algorithm=algorithm, cluster=place, run_dir=tmp_path / "run", progress=False
    )
    assert result.history[-1].clients["failed"] == 0


@pytest.mark.gpu
@pytest.mark.parametrize("algorithm", [fedray.Ditto(), fedray.Scaffold(), fedray.FedAMP()])
def test_a_trial_on_a_gpu_sees_what_one_on_the_cpu_sees(algorithm: Algorithm) -> None:
    task = local_task(class_problem(), program=algorithm)
    assert profile_of(task, torch.device("cuda", 0)) == profile_of(task) == task.profile


def test_the_class_that_counts_as_positive_is_told_where_its_name_does_not_tell() -> None:
    def told(*names: str) -> tuple[str, ...]:
        task = Classification().of(DataSpec((2,), len(names), classes=names))
        chosen = (Sensitivity(), F1(), F1(average="macro", label="macro"), F1(positive=names[0], label="first"))
        return taken_for_positive(
            measured(nn.functional.cross_entropy, task, chosen if len(names) == 2 else chosen[:1])
        )

    (said,) = told("boesartig", "gutartig")
    assert said.startswith("metrics: sensitivity, f1: the positive class is 'gutartig', the second of two; if it is")
    assert "{name: sensitivity, positive: boesartig}, or data.classes: [gutartig, boesartig]" in said
    assert told("no", "Yes") == told("0", "1") == told("a", "b", "c") == ()
