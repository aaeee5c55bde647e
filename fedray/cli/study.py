"""The files of a new study: a config, and a model, data and a metric of the user's own, which run as they are."""

from __future__ import annotations

from pathlib import Path
from string import Template

from fedray.core.errors import ConfigError
from fedray.rundir import durable

_CONFIG = """\
# $name: what is trained, on what, and how.  Every key: fedray config config.yaml
seed: 1
data:      {name: "my_data:load", clients: 10, examples: 80}
model:     {name: "my_model:net", width: 32}
metrics:   [accuracy, auroc, "my_model:confidence"]
algorithm: {name: fedavg}
local:     {epochs: 2, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}
evaluate:  {clients_every: 5}
rounds: 20
"""

_MODEL = '''\
"""The model, and a metric of its own."""

import torch
from torch import nn


def net(spec, width=32):
    """Return the module: `spec.shape` is that of an input, `spec.outputs` the number of classes."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(torch.Size(spec.shape).numel(), width),
        nn.ReLU(),
        nn.Linear(width, spec.outputs),
    )


def confidence(output, target):
    """Return the probability of the right class, one value for each example."""
    return output.softmax(dim=1)[torch.arange(len(target)), target]
'''

_DATA = '''\
"""The data: what each client holds, and a test set that no client has."""

import numpy as np

from fedray.parts import FederatedData, numpy_generator


def load(seed, clients=10, examples=80, holdout=0.25):
    """Return the clients' data.  Put your own in the place of the arrays.

    Each client sees its classes a little shifted, as each hospital has its own patients.
    """
    draw = numpy_generator(seed, "data")
    x, y, owner = _points(draw, draw.normal(scale=0.7, size=(clients, 4)), examples)
    x_test, y_test, _ = _points(draw, np.zeros((1, 4)), 400)
    names = np.array([f"client_{number:02}" for number in range(clients)])
    data = FederatedData.from_arrays(x, y, names[owner], test=(x_test, y_test))
    return data.with_holdout(holdout, seed)  # this share of each client's rows is for evaluation


def _points(draw, shifts, examples):
    """Return inputs [N, 4], classes [N], and the number of the client of each row [N]."""
    owner = np.repeat(np.arange(len(shifts)), examples)
    y = draw.integers(0, 3, size=len(owner))
    centres = np.array([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
    x = centres[y] + shifts[owner] + draw.normal(size=(len(owner), 4))
    return x.astype(np.float32), y, owner
'''

_TEST = '''\
"""Run with `pytest`: the data are what they should be, and the config trains."""

import json
import subprocess
import sys
from pathlib import Path

import torch

import my_data
import my_model

HERE = Path(__file__).parent


def test_each_client_has_its_own_rows():
    data = my_data.load(seed=1, clients=3, examples=40, holdout=0.25)
    assert [data.client_id(client) for client in range(len(data))] == ["client_00", "client_01", "client_02"]
    assert data.sizes.tolist() == [30, 30, 30]  # 10 of each are held out
    assert data.spec.shape == (4,)
    again = my_data.load(seed=1, clients=3, examples=40, holdout=0.25)
    assert data.fingerprint() == again.fingerprint()  # the same seed, the same data


def test_confidence_is_that_of_the_right_class():
    output = torch.tensor([[0.0, 100.0], [0.0, 0.0]])
    assert my_model.confidence(output, torch.tensor([1, 0])).tolist() == [1.0, 0.5]


def test_the_config_trains(tmp_path):
    run = tmp_path / "run"
    words = ["config.yaml", "rounds=5", "cluster.name=inline", f"run.dir={run}", "--quiet"]
    subprocess.run([sys.executable, "-m", "fedray", "run", *words], cwd=HERE, check=True)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["train"]["loss"] < records[0]["train"]["loss"]
    assert records[-1]["test"]["accuracy"] > 0.5
'''

_README = """\
# $name

| file | what is in it |
|---|---|
| `config.yaml` | the experiment: data, model, algorithm, rounds |
| `my_data.py` | `load`, which gives what each client holds: put your own data there |
| `my_model.py` | `net`, which gives the module, and `confidence`, a metric |
| `test_study.py` | tests: run `pytest` |

```
fedray plan config.yaml                                       # what it will do and cost
fedray run config.yaml run.dir=runs/first                     # train
fedray run config.yaml algorithm.name=fedprox                 # change any key
fedray sweep config.yaml seed=1,2,3 algorithm.name=fedavg,fedprox   # compare
tensorboard --logdir runs
```

What the config names `my_model:net` is the function `net` of `my_model.py`, imported from the folder in which `fedray`
is started: start it here.  Its options in the config, such as `width`, are the arguments that it is called with:

| function | besides its options it may take | gives |
|---|---|---|
| a model | `spec`, or nothing: `spec.outputs` classes, inputs of `spec.shape` | a `torch.nn.Module` |
| data | `seed`, that of the run; or nothing | a `fedray.parts.FederatedData` |
| a metric | outputs and targets, first | a value of each example |
| a loss, `local: {loss: "my_model:name"}` | outputs and targets, first | the mean of the batch |

All that can be one's own, an algorithm too, is in docs/write-your-own.md of fedray.
"""

FILES = {
    "config.yaml": _CONFIG,
    "my_data.py": _DATA,
    "my_model.py": _MODEL,
    "test_study.py": _TEST,
    "README.md": _README,
    ".gitignore": "runs/\nsweeps/\n__pycache__/\n.pytest_cache/\n",
}
"""The text of each file by its name; but in Python ``$name`` stands for the name of the study."""


def write_study(folder: Path) -> None:
    """Write a study into a new folder.

    Args:
        folder: it must not exist; its name is that of the study.

    Raises:
        ConfigError: it exists, or cannot be written, of which nothing is left.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} exists already: nothing is written into it; choose another name")
    try:
        with durable.folder(folder) as made:
            for name, text in FILES.items():
                shown = text if name.endswith(".py") else Template(text).substitute(name=folder.resolve().name)
                (made / name).write_text(shown, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from None
