"""The trial of a program: what is wrong in it ends a run before its first round, in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedray.algorithms import Ditto, FedAMP, Mime
from fedray.algorithms.base import Algorithm
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.fields import Field
from fedray.local import trial
from fedray.local.clients import Clients
from fedray.local.program import Profile
from fedray.local.step import Step
from fedray.local.task import LocalTask
from fedray.local.trainer import Trainer
from tests.helpers import class_problem, federation, local_task, remembered, train

Program = Callable[[Clients], Any]


def program(client: Program, keeps: bool = False) -> Algorithm:
    """An algorithm whose clients do this; they keep a model if ``keeps``."""

    class Tried(Algorithm):
        def initial_state(self, c: Clients) -> dict[str, Tensor]:
            return {"own": c.anchor} if keeps else {}

        def client(self, c: Clients) -> None:
            client(c)

    return Tried()


def tried(client: Program, keeps: bool = False, stack: Any = 3) -> str:
    """What is said of it."""
    with pytest.raises(ConfigError) as raised:
        local_task(class_problem(), program=program(client, keeps), stack=stack)
    said = str(raised.value)
    assert "\n" not in said
    return said.removeprefix("algorithm: ")


def objective(loss: Callable[[Step], Tensor]) -> Program:
    return lambda c: c.fit(objective=loss)


def gradient(hook: Callable[[Step, Tensor], Any]) -> Program:
    return lambda c: c.fit(gradient=hook)


def after(hook: Callable[[Step], Any]) -> Program:
    return lambda c: c.fit(after=hook)


def forgets_rows(c: Clients) -> None:
    own = c.state["own"]
    c.fit(gradient=lambda step, grad: grad.add_(step.params - own))


def fits_in_a_fit(c: Clients) -> None:
    c.fit(gradient=lambda step, grad: c.fit(epochs=1))


def keeps(name: str, value: Callable[[Clients], Tensor]) -> Program:
    def client(c: Clients) -> None:
        c.fit()
        c.state[name] = value(c)

    return client


def misspells(c: Clients) -> None:
    c.parms  # type: ignore[attr-defined]  # noqa: B018


def replaces(c: Clients) -> None:
    c.params = 2 * c.params


def replaces_in_a_step(step: Step) -> None:
    step.params = 0 * step.params  # type: ignore[misc]


def replaces_down(c: Clients) -> None:
    c.down["model"] = 0 * c.down["model"]  # type: ignore[index]


def centres(c: Clients) -> None:
    c.fit()
    c.send("delta", c.delta - c.delta.mean(0))


def averages_states(c: Clients) -> None:
    mean = c.state["own"].mean(dim=0)
    c.fit(gradient=lambda step, grad: grad.add_(step.params - mean))


def changes_anchor(step: Step, grad: Tensor) -> None:
    step.c.anchor.add_(0.1)


WRONG_ANYWHERE: dict[str, tuple[Program, bool, str]] = {
    "an attribute that is none": (misspells, False, r"AttributeError: .*'parms' \(test_trial.py, line \d+\)"),
    "one number for all": (
        objective(lambda s: s.loss().mean()),
        False,
        r"one loss for each client of step.rows, \[",
    ),
    "a loss for each example": (
        objective(lambda s: s.forward().logits.mean(2)),
        False,
        r"this one gives \[1, 4\]: average with step.mean",
    ),
    "a loss of nothing": (objective(lambda s: s.loss().detach()), False, r"an objective depends on step.params"),
    "a fit in a fit": (fits_in_a_fit, False, r"a fit inside a fit would move clients that have finished"),
    "a gradient returned": (gradient(lambda s, g: 2 * g), False, r"what it returns is not used: write grad.copy_\("),
    "a step returned": (
        after(lambda s: 2 * s.params),
        False,
        r"is not used: write step.params.copy_\(",
    ),
    "models replaced": (replaces, False, r"c.params cannot be replaced: write into the models"),
    "models replaced in a step": (after(replaces_in_a_step), False, r"cannot assign to field 'params'"),
    "the broadcast replaced": (replaces_down, False, r"'mappingproxy' object does not support item assignment"),
    "the broadcast changed": (
        gradient(changes_anchor),
        False,
        r"c.down\['model'\], of which c.anchor is a view, is",
    ),
    "a state that nobody has": (keeps("owm", lambda c: c.params), True, r"c.state\['owm'\]: nobody has it; .* own;"),
    "a state of another width": (keeps("own", lambda c: c.params[:, :2]), True, r"\[1, 83\]; this one is \[1, 2\]"),
    "a state of another type": (
        keeps("own", lambda c: c.params.double()),
        True,
        r"c.state\['own'\] is torch.float64, and initial_state has it as torch.float32: say one type in both",
    ),
    "a state for all": (keeps("own", lambda c: c.params.mean(0)), True, r"\[1, 83\]; this one is \[83\]"),
    "a row of no type": (
        lambda c: c.send("own", c.params + 0j, apart=True),
        False,
        r"send\('own'\) is complex64; what is kept is float64, .*, uint8 or bool",
    ),
    "a part for all": (lambda c: c.send("size", c.sizes.mean()), False, r"\[1, k\] or \[1\]; this one is \[\];"),
}

WRONG_IN_A_STACK: dict[str, tuple[Program, bool, str]] = {
    "rows forgotten": (
        forgets_rows,
        True,
        r"in a stack of two clients, but alone: .* \(test_trial.py, line",
    ),
    "a number in the loss": (objective(lambda s: s.loss() + s.forward().logits.square().mean()), False, "reaches anot"),
    "padding in the loss": (
        objective(lambda s: s.loss() + s.forward().logits.square().mean(dim=(1, 2))),
        False,
        r"client . stacked is not what it is alone, though it is with a plain fit: .* padding counts; .*: off",
    ),
    "others in a gradient": (
        gradient(lambda s, g: g.sub_(g.mean(0))),
        False,
        r"reaches another one",
    ),
    "others in an update": (centres, False, r"reaches another one"),
    "others' states": (averages_states, True, r"reaches another one"),
    "the number of clients": (gradient(lambda s, g: g.mul_(len(g))), False, r"reaches another one"),
}


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
@pytest.mark.parametrize("wrong", WRONG_ANYWHERE)
def test_what_is_wrong_ends_before_the_first_round(wrong: str, stack: Any) -> None:
    client, state, words = WRONG_ANYWHERE[wrong]
    said = tried(client, state, stack)
    assert said.startswith("Tried does not run on two clients: ")
    assert said.endswith("; see the traps in docs/write-your-own.md")
    assert re.search(words, said), said


class TellsOfClients(Algorithm):
    def client(self, c: Clients) -> dict[str, float]:  # type: ignore[override]
        c.fit()
        return {"fits": 1.0}


class TellsOfSurvey(Algorithm):
    def survey(self, c: Clients) -> dict[str, float]:  # type: ignore[override]
        c.send("size", c.sizes)
        return {"asked": 1.0}


@pytest.mark.parametrize(
    ("telling", "hook"), [(TellsOfClients(), "client"), (TellsOfSurvey(), "survey")], ids=["client", "survey"]
)
@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
def test_numbers_that_nobody_would_hear_are_refused(telling: Algorithm, hook: str, stack: Any) -> None:
    words = rf"{hook}\(c\) returns something of type dict, which nobody would hear: c\.send\(name, values\) sends"
    with pytest.raises(ConfigError, match=words) as raised:
        local_task(class_problem(), program=telling, stack=stack)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("algorithm", [Ditto(), Mime(), FedAMP()], ids=name_of)
def test_a_program_is_tried_on_the_device_that_is_said(algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name of the CPU stands in for a GPU."""
    task, seen, there = local_task(class_problem(), program=algorithm), set[torch.device](), torch.device("cpu", 0)

    class Told(Trainer):
        def __init__(self, task: LocalTask, devices: list[torch.device]) -> None:
            seen.add(devices[0])
            super().__init__(task, devices)

    monkeypatch.setattr(trial, "Trainer", Told)
    heard = {name: width for name, width in task.receives.items() if name not in task.profile.surveys}
    assert trial.profile_of(replace(task, receives=heard), there) == task.profile
    assert seen == {there}


@pytest.mark.parametrize("wrong", WRONG_IN_A_STACK)
def test_what_is_wrong_in_a_stack_is_said_and_does_no_harm_alone(wrong: str) -> None:
    client, state, words = WRONG_IN_A_STACK[wrong]
    said = tried(client, state)
    assert re.search(words, said), said
    assert not local_task(class_problem(), program=program(client, state), stack="off").stacking.stacked


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (lambda c: c.fit(c.anchor), r"fit: a model for each of the block's clients, .* this one is \[83\]"),
        (lambda c: c.fit(c.params[:, :9]), r"fit: a model for each .* this one is \[1, 9\]"),
        (lambda c: c.send("delta", c.delta[:, :9]), r"send\('delta'\): the update of what travels, \[1, 83\]"),
        (gradient(lambda s, g: g.mul_(torch.nan)), r"model is not finite after a few examples, where a plain fit's"),
    ],
)
def test_models_and_updates_have_their_shape_and_are_numbers(client: Program, words: str) -> None:
    assert re.search(words, tried(client))


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
def test_what_clients_are_evaluated_with_is_tried(stack: Any) -> None:
    class Narrow(Algorithm):
        def personal(self, c: Clients) -> Tensor:
            return c.params[:, :3]

    class Fails(Algorithm):
        def predict(self, step: Step) -> Tensor:
            raise KeyError("head")

    for wrong, words in ((Narrow(), r"personal: a model for each .* \[1, 3\]"), (Fails(), "KeyError: 'head'")):
        with pytest.raises(ConfigError, match=words):
            local_task(class_problem(), program=wrong, stack=stack)


def test_a_model_that_does_not_stack_is_not_the_programs_fault() -> None:
    class Branching(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.sum().detach()) > 0 else -x)

    problem = class_problem(model_fn=lambda: Branching(6, 3))
    for client in (lambda c: c.fit(gradient=lambda step, grad: grad.mul_(0.5)), forgets_rows):
        task = local_task(problem, program=program(client, client is forgets_rows))
        assert task.stacking.reason.startswith("it does not run under vmap (")


def test_a_model_that_fails_is_not_the_programs_fault() -> None:
    class Failing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no")

    task = local_task(class_problem(model_fn=lambda: Failing(6, 3)), program=program(fits_in_a_fit), stack="off")
    assert not task.stacking.stacked


def test_what_a_program_remembers_in_itself_is_refused() -> None:
    @dataclass(frozen=True)
    class Remembers(Algorithm):
        seen: dict[int, Tensor] = field(default_factory=dict)

        def client(self, c: Clients) -> None:
            c.fit()
            self.seen[c.round] = c.params.clone()

    with pytest.raises(ConfigError, match=r"^algorithm: Remembers remembers algorithm.seen, which each worker"):
        local_task(class_problem(), program=Remembers(), stack="off")


def test_what_a_program_draws_is_named_one_by_one() -> None:
    def noisy(c: Clients) -> None:
        c.fit(gradient=lambda step, grad: grad.add_(torch.randn(grad.shape[1])))

    task = local_task(class_problem(), program=program(noisy))
    assert task.stacking.reason == "it draws from torch, which knows one client at a time"


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
def test_what_is_sent_or_kept_is_no_view_of_the_models(stack: Any) -> None:
    """Their memory becomes the update."""

    class Views(Algorithm):
        def initial_state(self, c: Clients) -> dict[str, Tensor]:
            return {"own": c.anchor}

        def client(self, c: Clients) -> None:
            c.fit()
            c.state["own"] = c.params
            c.send("copy", c.params)

    task = local_task(class_problem(), program=Views(), stack=stack)
    width = task.layout.trained
    update = train(task, [2, 3, 0], state={"own": torch.zeros(3, width)})
    start = task.layout.pack(dict(task.model_fn().state_dict()))
    assert torch.equal(update.state["own"], update.parts["copy"])
    torch.testing.assert_close(update.state["own"] - start, update.parts["delta"])


class Wide(Algorithm):
    """Clients keep and send what is as wide as nothing in the model."""

    def initial_state(self, c: Clients) -> dict[str, Tensor]:
        return {"rounds": c.params.new_zeros(1), "table": c.params.new_zeros(len(c), 5)}

    def client(self, c: Clients) -> None:
        c.fit()
        c.state["rounds"] = c.state["rounds"] + 1.0
        c.state["table"] = c.state["table"] + c.sizes[:, None]
        c.send("pair", c.labels[:, :2])
        c.send("size", c.sizes)


@pytest.mark.parametrize("stack", [3, "off"], ids=["stacked", "alone"])
def test_widths_are_seen(stack: Any, tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, Wide(), stack=stack)
    assert run.plan.task.profile == Profile({"pair": 2, "size": 1}, {"rounds": Field(1), "table": Field(5)})
    assert list(run.job.state_fields()) == ["rounds", "table"]
    run.run()
    kept, sizes = remembered(run), torch.from_numpy(run.plan.task.data.sizes).float()
    assert torch.equal(kept["rounds"], torch.full((len(sizes), 1), 3.0))
    assert torch.equal(kept["table"], 3.0 * sizes[:, None].expand(-1, 5))


@pytest.mark.parametrize(
    ("part", "width", "words"),
    [
        ("size", 2, r"send\('size', ...\): 2 numbers, 1 in the trial before the run: send the same parts"),
        ("more", 1, r"send\('more', ...\) was not called in the trial before the run"),
        ("pair", 0, r"send\('pair', ...\) was not called, but was in the trial before the run"),
    ],
)
def test_what_is_sent_otherwise_in_a_later_round_is_a_failure(
    part: str, width: int, words: str, tmp_path: Path
) -> None:
    class Changing(Wide):
        def client(self, c: Clients) -> None:
            super().client(c)
            if c.round == 2:
                c.sent.pop(part, None)
            if c.round == 2 and width:
                c.send(part, c.sizes[:, None].expand(-1, width))

    run = federation(class_problem(), tmp_path, Changing())
    with pytest.raises(RunFailed, match=words):
        run.run()


@pytest.mark.parametrize("name", ["model", "buffers", "personal", "statistics", "a.b"])
def test_names_of_the_engines_are_refused(name: str) -> None:
    words = "the name '" + name + "' "
    assert words in tried(lambda c: c.send(name, c.sizes))

    class Keeps(Algorithm):
        def initial_state(self, c: Clients) -> dict[str, Tensor]:
            return {name: c.sizes}

    with pytest.raises(ConfigError, match=re.escape(words)):
        local_task(class_problem(), program=Keeps())


def test_an_algorithm_that_declares_is_refused() -> None:
    class Declares(Algorithm):
        state: ClassVar[dict[str, str]] = {"own": "trained"}

    with pytest.raises(ConfigError, match=r"^algorithm: Declares declares state; .* see docs/write-your-own.md$"):
        local_task(class_problem(), program=Declares())
