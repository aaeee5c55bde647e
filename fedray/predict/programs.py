"""Models as programs that need none of their code: torch.export's, and ONNX; each is run, and compared with torch."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError, one_line
from fedray.data.augment_chain import Augment
from fedray.data.columns.inputs import InputColumns, Inputs, call, joined, parts
from fedray.data.encoding.encoding import Encoding
from fedray.data.spec import DataSpec
from fedray.tasks import logits_of

OUTPUT = "output"
"""The name of what an ONNX graph gives."""

Run = Callable[..., Tensor]
"""The inputs of a program, column by column, ``[N, ...]`` each, to its outputs, float32 ``[N, ...]``."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TOLERANCE = 1e-4


class Program(nn.Module):
    """A model as it is exported: outputs ``[N, ...]`` of inputs ``[N, ...]``, with what happens to these before.

    Several columns of inputs are given by place, in the order of ``columns``.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.ones_(layer.weight)
    >>> scaling = (torch.tensor([10.0, 0.0]), torch.tensor([2.0, 1.0]), torch.tensor([10.0, 0.0]))
    >>> Program(layer, scaling)(torch.tensor([[14.0, 1.0], [float("nan"), 0.0]])).flatten()
    tensor([3., 0.], grad_fn=<ViewBackward0>)

    Args:
        module: the model.
        scaling: of each input the centre, the scale and the value of a missing one, each ``[features]``; None: inputs
            are as the model takes them.
        augment: the changes of inputs that are always made.
        columns: the names of the columns of inputs; none: they are one tensor.
    """

    center: Tensor
    scale: Tensor
    fill: Tensor

    def __init__(
        self,
        module: nn.Module,
        scaling: tuple[Tensor, Tensor, Tensor] | None = None,
        augment: Augment | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.module, self._augment, self.scaled = module, augment or Augment(), scaling is not None
        self.columns = tuple(columns)
        for name, values in zip(("center", "scale", "fill"), scaling or (), strict=False):
            self.register_buffer(name, values)

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """Return the outputs."""
        if self.scaled:
            x = (torch.where(torch.isnan(x), self.fill, x) - self.center) / self.scale
        inputs = InputColumns(dict(zip(self.columns, (x, *more), strict=True))) if self.columns else x
        return logits_of(call(self.module, self._augment.fixed(inputs)))

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs of its ONNX graph: ``x``, or those of columns, which are ``x0`` on without a name."""
        return [f"x{name}" if name.isdigit() else name for name in self.columns] or ["x"]


def scaling_of(encoding: Encoding) -> tuple[Tensor, Tensor, Tensor]:
    """Return of each input of a table's model the centre, the scale, and the value of a missing one, ``[features]``."""
    triples: list[tuple[float, float, float]] = []
    for name in encoding.order:
        if name in encoding.numeric:
            triples.append(encoding.numeric[name])
            if name in encoding.indicated:
                triples.append((0.0, 1.0, 0.0))
        else:
            width = len(encoding.categories[name]) if name in encoding.categories else encoding.options.hashed[name]
            triples += [(0.0, 1.0, 0.0)] * width
    center, scale, fill = torch.tensor(triples, dtype=torch.float64).to(torch.float32).unbind(dim=1)
    return center.clone(), scale.clone(), fill.clone()


def exported_program(model: Program, example: Inputs, long: Collection[str] = ()) -> bytes:
    """Return a model as torch.export's program, for ``torch.export.load`` of a ``.pt2`` file.

    Args:
        model: the model, in evaluation mode.
        example: inputs of two examples or more.
        long: the columns that may be of another length, if the model's code allows it.

    Raises:
        ConfigError: it cannot be traced, or gives other outputs.
    """
    content = io.BytesIO()
    with _quiet():
        torch.export.save(_traced(model, example, long), content)
        _check("exported-program", run_program(content.getvalue()), model, example)
    return content.getvalue()


def onnx(model: Program, example: Inputs, long: Collection[str] = ()) -> bytes:
    """Return a model as an ONNX graph, whose inputs are called as :attr:`Program.inputs`, and its output ``output``.

    Args:
        model: as for :func:`exported_program`; so are the rest.
        example: inputs of two examples or more.
        long: the columns that may be of another length.

    Raises:
        ConfigError: a package is lacking, it cannot be exported, or gives other outputs.
    """
    check_packages()
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                _traced(model, example, long),
                dynamo=True,
                input_names=model.inputs,
                output_names=[OUTPUT],
                verbose=False,
            )
        except Exception as error:  # of any kind: it runs through the user's code, and torch's passes
            raise _refused("onnx", error) from error
        content: bytes = program.model_proto.SerializeToString()
        _check("onnx", run_onnx(content), model, example)
    return content


def check_packages() -> None:
    """Raise ConfigError where a package that ONNX needs is not installed."""
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise ConfigError(f"onnx: the package `{name}` is not installed; install it: pip install 'fedray[onnx]'")


def run_program(content: bytes) -> Run:
    """Return the outputs of a program that :func:`exported_program` has made.

    ``torch.export.load`` unpickles parts of its archive, so a file from elsewhere can run code: ``docs/predictions.md``
    says so to whoever is given one.
    """
    with _quiet():
        module = torch.export.load(io.BytesIO(content)).module()

    def outputs(*x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = module(*x)
        return found.float()

    return outputs


def run_onnx(content: bytes) -> Run:
    """Return the outputs of a graph that :func:`onnx` has made.

    Raises:
        ConfigError: a package is lacking.
    """
    check_packages()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def outputs(*x: Tensor) -> Tensor:
        (found,) = session.run([OUTPUT], {name: one.numpy() for name, one in zip(names, x, strict=True)})
        return torch.from_numpy(np.asarray(found, dtype=np.float32))

    return outputs


def of_any_length(spec: DataSpec) -> list[str]:
    """Return the columns that are as long as a text: the tokens, and those beside them, such as a mask.

    >>> from fedray.data.spec import Column
    >>> of_any_length(DataSpec((), 2, columns=(Column("input_ids", (8,), 40), Column("attention_mask", (8,), 2))))
    ['input_ids', 'attention_mask']
    """
    tokens = spec.tokens if spec.columns else None
    return [] if tokens is None else [one.name for one in spec.columns if one.shape == tokens.shape]


def _traced(model: Program, example: Inputs, long: Collection[str]) -> torch.export.ExportedProgram:
    rows, length = torch.export.Dim("batch"), torch.export.Dim.AUTO
    sizes: list[dict[int, Any]] = [
        {0: rows, 1: length} if name in long else {0: rows} for name in model.columns or ("x",)
    ]
    first, *more = sizes
    shapes = (first, tuple(more)) if more else (first,)
    try:
        return torch.export.export(model, tuple(parts(example)), dynamic_shapes=shapes)
    except Exception as error:  # of any kind: it runs the user's code
        raise _refused("exported-program", error) from error


def _refused(kind: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"--to {kind}: this model cannot be exported so: {one_line(error)}\n"
        "--to safetensors writes its tensors, whatever it does"
    )


def _check(kind: str, found: Run, model: Program, example: Inputs) -> None:
    """Compare the outputs of a program with those of the model, for another number of examples, too."""
    for x in (example, joined([example, example[:1]])):
        with torch.no_grad():
            wanted = model(*parts(x)).float()
        try:
            outputs = found(*parts(x))
        except Exception as error:  # of any kind
            raise _refused(kind, error) from error
        if outputs.shape != wanted.shape or not torch.allclose(outputs, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
            away = float((outputs - wanted).abs().max()) if outputs.shape == wanted.shape else float("nan")
            raise ConfigError(
                f"--to {kind}: what was exported gives other outputs than the model (by up to {away:.2g}), as of one "
                "that draws, or whose code depends on values; nothing was written"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporters say of themselves from a person who can do nothing about it."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
