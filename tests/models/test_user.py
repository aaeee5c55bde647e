"""Models of the user's own: imported from their folder, called with their options, with errors that say what to do."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from fedray.config.registry import dump
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import UserModel, initial_model, resolve_model

SPEC = DataSpec(shape=(4,), outputs=2)

NETS = """
import torch
from torch import nn

built = nn.Linear(1, 1)
number = 3

class Net(nn.Linear):
    def __init__(self, spec, *, hidden=1):
        super().__init__(spec.shape[0], spec.outputs)
        self.hidden = hidden

def without_spec(width: int, bias=True):
    return nn.Linear(width, 1, bias=bias)

def anything(**options):
    module = nn.Linear(1, 1)
    module.options = options
    return module

def mutates(sizes):
    sizes.append(1)
    return nn.Linear(1, len(sizes))

def lazy():
    from helper_nets import build
    return build()

def positional(width, /):
    return nn.Linear(width, 1)

def returns_a_list():
    return [built]

def raises():
    return nn.Linear(1, 1)(torch.zeros(3, 7))
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules into an empty working directory; what they put in ``sys.modules`` is gone afterwards."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    write("my_nets.py", NETS)
    write("helper_nets.py", "from torch import nn\n\ndef build():\n    return nn.Linear(5, 5)\n")
    return write


@pytest.mark.usefixtures("write")
def test_class_with_spec_and_option() -> None:
    model = resolve_model({"name": "my_nets:Net", "hidden": 7})
    module = initial_model(model, SPEC, seed=0)
    assert model.name == "my_nets:Net"
    assert isinstance(module, nn.Linear)
    assert (module.in_features, module.out_features, vars(module)["hidden"]) == (4, 2, 7)
    assert torch.equal(initial_model(model, SPEC, seed=0).get_parameter("weight"), module.weight)


@pytest.mark.usefixtures("write")
def test_function_without_spec() -> None:
    module = resolve_model({"name": "my_nets:without_spec", "width": 3, "bias": False}).build(SPEC)
    assert [tuple(p.shape) for p in module.parameters()] == [(1, 3)]


@pytest.mark.usefixtures("write")
def test_open_ended_factory_gets_the_options_and_no_spec() -> None:
    node = OmegaConf.create({"name": "my_nets:anything", "a": {"b": [1, 2]}, "c": "${.a.b}"})
    options = vars(resolve_model(node).build(SPEC))["options"]
    assert options == {"a": {"b": [1, 2]}, "c": [1, 2]}
    assert type(options["a"]) is dict


@pytest.mark.usefixtures("write")
def test_options_are_not_shared_between_builds() -> None:
    model = resolve_model({"name": "my_nets:mutates", "sizes": [1]})
    assert [tuple(model.build(SPEC).get_parameter("bias").shape) for _ in range(2)] == [(2,), (2,)]


def test_packages_and_installed_modules(write: Write) -> None:
    write("my_models/__init__.py", "")
    write(
        "my_models/small.py", "from my_models.parts import Part\n\ndef make(spec):\n    return Part(1, spec.outputs)\n"
    )
    write("my_models/parts.py", "from torch.nn import Linear as Part\n")
    assert resolve_model("my_models.small:make").build(SPEC).get_parameter("weight").shape == (2, 1)
    installed = resolve_model({"name": "torch.nn:Linear", "in_features": 2, "out_features": 1})
    assert installed.build(SPEC).get_parameter("weight").shape == (1, 2)


@pytest.mark.usefixtures("write")
def test_path_holds_the_folder_first_only_meanwhile_and_last_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = [folder for folder in sys.path if folder != str(tmp_path)]
    module = resolve_model("my_nets:lazy").build(SPEC)  # imports its helper when called
    assert module.get_parameter("weight").shape == (5, 5)
    with pytest.raises(ConfigError):
        resolve_model("my_nets:raises").build(SPEC)
    assert sys.path == [*before, str(tmp_path)]


@pytest.mark.usefixtures("write")
def test_pickles_by_reference_to_a_process_in_another_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = resolve_model({"name": "my_nets:Net", "hidden": 7})
    expected = initial_model(model, SPEC, seed=0)
    data = pickle.dumps(model)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    del sys.modules["my_nets"]
    restored = pickle.loads(data)
    assert restored == model
    module = initial_model(restored, SPEC, seed=0)
    assert type(module) is not type(expected)  # imported anew; its import draws numbers, which must not show
    assert torch.equal(module.get_parameter("weight"), expected.get_parameter("weight"))


@pytest.mark.usefixtures("write")
def test_dump_is_the_config_section() -> None:
    for node in ({"name": "my_nets:Net", "hidden": 7}, {"name": "my_nets:anything"}):
        model = resolve_model(node)
        assert dump(model) == node
        assert resolve_model(dump(model)) == model
    assert dump(resolve_model("logistic")) == {"name": "logistic", "bias": True}


@pytest.mark.usefixtures("write")
@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("my_netz:Net", r"model.name: no module 'my_netz' in .* or the installed packages"),
        ("my_nets.inner:Net", r"model.name: no module 'my_nets.inner' in"),
        ("my_nets:Nett", r"model.name: module 'my_nets' has no 'Nett' \(did you mean 'Net'\?\)"),
        (":Net", r"model.name: ':Net' must have the form package.module:name"),
        ("my_nets:", r"must have the form"),
        ("my_nets:Net:Net", r"must have the form"),
        ("../my_nets:Net", r"must have the form"),
        ("my_nets:number", r"my_nets:number is an object of type int; name a function or a class"),
        ("my_nets:built", r"my_nets:built is an object of type Linear; name a function or a class"),
        ("my_nets:without_spec", r"model.width: a value is needed by my_nets:without_spec"),
        ({"name": "my_nets:positional", "width": 1}, r"model.width: my_nets:positional has no such parameter"),
        ("my_nets:positional", r"model.width: a value is needed by my_nets:positional"),
        (
            {"name": "my_nets:Net", "hiden": 1},
            r"model.hiden: my_nets:Net has no such parameter \(did you mean 'hidden'\?\); allowed: hidden",
        ),
        ({"name": "my_nets:Net", "spec": 1}, r"model.spec: fedray itself passes the data's spec"),
    ],
)
def test_mistakes_found_before_anything_starts(node: str | dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_model(node)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("write")
@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("my_nets:returns_a_list", r"model.name: my_nets:returns_a_list must return a torch.nn.Module, got list"),
        ("my_nets:raises", r"model: my_nets:raises failed: RuntimeError: .*shapes.* \(.*my_nets.py:36\)"),
        ({"name": "my_nets:without_spec", "width": "x"}, r"my_nets:without_spec failed: TypeError: .*my_nets.py:14\)"),
    ],
)
def test_mistakes_found_when_building(node: str | dict[str, Any], message: str) -> None:
    model = resolve_model(node)
    with pytest.raises(ConfigError, match=message) as caught:
        model.build(SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_package\n",
            r"importing 'broken' failed: ModuleNotFoundError: .*no_such_package.*broken.py:1\)",
        ),
        ("x = 1\nx x\n", r"importing 'broken' failed: SyntaxError: invalid syntax \(broken.py, line 2\)"),
        ("x = 1\n\ny = x / 0\n", r"importing 'broken' failed: ZeroDivisionError: .*broken.py:3\)"),
        ("import sys\nsys.exit(2)\n", r"importing 'broken' failed: SystemExit: 2 \(.*broken.py:2\)"),
    ],
)
def test_import_that_fails(write: Write, text: str, message: str) -> None:
    write("broken.py", text)
    with pytest.raises(ConfigError, match=message):
        resolve_model("broken:Net")


def test_factory_may_raise_a_config_error_of_its_own(write: Write) -> None:
    write(
        "picky.py",
        "from fedray.core.errors import ConfigError\n\ndef make(spec):\n    raise ConfigError('needs images')\n",
    )
    with pytest.raises(ConfigError, match=r"^needs images$"):
        resolve_model("picky:make").build(SPEC)


def test_a_module_of_the_same_name_imported_before_is_not_taken(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_model("my_nets:Net")
    other = tmp_path_factory.mktemp("other")
    (other / "my_nets.py").write_text("def make(): ...\n")
    monkeypatch.chdir(other)
    with pytest.raises(ConfigError, match=r"model.name: 'my_nets' was imported from .*; rename your module"):
        resolve_model("my_nets:make")
    write("json.py", "def make(): ...\n")
    with pytest.raises(ConfigError, match=r"'json' was imported from"):
        UserModel("json:make", folder=str(write("unused.py", "").parent)).check()


@pytest.mark.usefixtures("write")
def test_errors_start_with_the_given_key() -> None:
    with pytest.raises(ConfigError, match=r"^teacher\.name: module 'my_nets' has no"):
        resolve_model("my_nets:nothing_like_it", key="teacher")
    with pytest.raises(ConfigError, match=r"^teacher: my_nets:raises failed"):
        resolve_model("my_nets:raises", key="teacher").build(SPEC)
