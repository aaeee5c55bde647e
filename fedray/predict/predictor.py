"""A trained model with all that stands between rows, as a person has them, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray.core.errors import ConfigError, an, listed
from fedray.core.losses import cross_entropy
from fedray.data.augment_chain import Augment
from fedray.data.columns.checks import as_examples, as_inputs, check_fits, tensor, tensors
from fedray.data.columns.inputs import InputColumns
from fedray.data.columns.ragged import Ragged
from fedray.data.columns.rows import CPU, Examples
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.frames import beside, inputs_of, is_table, table_of
from fedray.data.text.files import KINDS
from fedray.local.kernels import cuda_kernels
from fedray.local.task import MOST_ROWS, Precision
from fedray.predict.pairs import texts_of
from fedray.predict.predictions import Predictions
from fedray.predict.rows import encoded_rows, read_rows
from fedray.predict.texts import is_text
from fedray.run.evaluation import Evaluator, TestChunk, take_from
from fedray.run.generation import GoOn
from fedray.tasks import NextTokens, Task

Outputs = Callable[[Tensor], Tensor]
"""Stored inputs ``[N, ...]`` to outputs, float32 ``[N, ...]`` on the CPU."""


@dataclass(frozen=True)
class Predictor:
    """A trained model that predicts rows; :func:`fedray.load` makes one of a run folder or an export.

    >>> from fedray.data.spec import DataSpec
    >>> from fedray.tasks import Classification
    >>> task = Classification().of(DataSpec((2,), 2, classes=("low", "high")))
    >>> with torch.no_grad():
    ...     layer = nn.Linear(2, 2)
    ...     _ = layer.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    >>> predictor = Predictor(task, outputs_of(layer))
    >>> predictor.predict([[0.0, 3.0], [1.0, 0.0]]).predicted
    array(['high', 'low'], dtype='<U4')
    >>> predictor.predict_proba([[0.0, 0.0]])
    array([[0.5, 0.5]])

    Args:
        task: the meaning of the model's outputs.
        outputs: the model.
        encoding: of tables as its inputs, or of columns of tables beside arrays; None: its inputs are arrays.
        round: the round after which the model was as it is.
        taken: the columns of the files of arrays that it was trained on, see :class:`fedray.data.ClientData`.
    """

    task: Task
    outputs: Outputs
    encoding: Encoding | None = None
    round: int = 0
    taken: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The names of the classes, in the order of the columns of :meth:`predict_proba`; none for regression."""
        return np.array(self.task.classes if self.task.kind == "classes" else (), dtype=np.str_)

    def at(self, threshold: float) -> Predictor:
        """Return the same model with another threshold of two classes; what is predicted changes, no probability does.

        Raises:
            ConfigError: the model's task has none, or it is no probability.
        """
        return replace(self, task=self.task.at(threshold))

    def predict(self, rows: Any, csv: Mapping[str, Any] | None = None) -> Predictions:
        """Predict rows.

        Args:
            rows: of a model of tables a pandas DataFrame, a dict of columns, a pyarrow.Table, or the path of a CSV or
                Parquet file, with the columns of the training tables, in any order; the target may be missing, and
                what is no input, as the ids of patients, goes along in ``rest``.  Of another model an array or a
                tensor of inputs ``[N, ...]``, columns of them as it was trained on, a dict or a tuple, or the path of a
                file, .npy, .npz, Parquet or Arrow, whose columns are read as those of the training files.  Of a model
                of text a list of texts, or of dicts of columns, or the path of a file, JSON lines, Parquet or Arrow:
                what is predicted is a class, or numbers, of each, or of a language model the perplexity of each row, by
                what training would learn of it.
            csv: the way a file is written, where it neither shows it nor is written as the training tables were:
                ``{"decimal": ",", "dates": "%d/%m/%Y"}``; keys as in ``data.csv``.

        Raises:
            ConfigError: with line and column, for what does not fit the model.
        """
        if self.encoding is None or self.encoding.beside:
            if csv:
                raise ConfigError("csv: this model was not trained on tables, so that its rows have no dialect")
            rest: dict[str, Any] = {}
            if "text" in self.taken and is_text(rows):
                texts = texts_of(self.task, self.outputs, self.taken)
                if not self.taken["text"].get("target"):
                    return texts.scored(rows)
                rows, rest = texts.inputs(rows)
            elif isinstance(rows, str | Path):
                rows, rest = read_rows(Path(rows), self.task.spec, self.taken, self.encoding)
            elif self.encoding is not None:
                rows, rest = encoded_rows(rows, self.task.spec, self.taken, self.encoding)
            return Predictions.of(self.outputs(tensors(self._array(rows))), self.task, rest)
        table = table_of(rows, self.encoding, csv)
        found = self.outputs(tensor(inputs_of(table, self.encoding)))
        rest = {name: table.columns[name] for name in beside(table, self.encoding)}
        return Predictions.of(found, self.task, rest)

    def predict_proba(self, rows: Any, csv: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """Return the probability of each class, ``[N, K]``, in the order of :attr:`classes_`.

        Raises:
            ConfigError: as :meth:`predict`; the model gives numbers, not classes.
        """
        shares = self.predict(rows, csv).probabilities
        if shares is None:
            raise ConfigError("predict_proba: this model gives numbers, not classes; take predict")
        return shares

    def generate(
        self,
        prompts: Any,
        new_tokens: int = 40,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
    ) -> Predictions:
        """Have a language model go on after prompts, as far as the token that ends a text.

        Each token is a forward pass over eight prompts at most; of what is longer than training sequences were, the
        model sees the end.

        Args:
            prompts: texts, dicts of columns, or the path of a file, as for :meth:`predict`; completions need not be
                there, and of a chat a text is what a user says.
            new_tokens: the most tokens that are said.
            temperature: 0: the likeliest token comes next; else one drawn from ``softmax(logits / temperature)``.
            seed: names, with the number of the row, what is drawn.
            top_p: tokens are drawn from the likeliest alone whose shares together reach it, in (0, 1].
            stop: words before which a completion ends.

        Returns:
            In ``predicted`` the completions, and in ``rest`` the prompts.

        Raises:
            ConfigError: the model is none of text, or prompts cannot be read as those of its training.
        """
        if "text" not in self.taken or not isinstance(self.task, NextTokens):
            raise ConfigError(
                "generate: this model was not trained by task: causal_lm, or seq2seq_lm, on data: {name: text}"
            )
        if not is_text(prompts):
            raise ConfigError(
                f"prompts: a list of texts, or of dicts of columns, is needed, or a file called {listed(KINDS)}; "
                "a single text is a list of one"
            )
        texts = texts_of(self.task, self.outputs, self.taken)
        return texts.completed(prompts, new_tokens, temperature, seed, top_p, stop)

    def _array(self, rows: Any) -> Any:
        spec = self.task.spec
        if spec.columns:
            return self._columns(rows)
        if is_table(rows):
            raise ConfigError(
                f"rows: this model was not trained on tables, so an array of inputs {list(self.task.spec.shape)} for "
                f"each example is needed; this is {an(type(rows).__name__)}"
            )
        x = _as_long(as_inputs(rows, "rows"), spec.shape)
        if spec.vocabulary == 0 and x.dtype == np.int64:
            x = x.astype(np.float32)
        if x.shape[1:] != spec.shape:
            more = "; for a single example give rows[None]" if x.shape == spec.shape else ""
            raise ConfigError(f"rows: inputs have shape {x.shape[1:]}, the model takes {spec.shape}{more}")
        if not len(x):
            raise ConfigError("rows: there are no rows")
        if spec.vocabulary and int(x.max()) >= spec.vocabulary:
            raise ConfigError(f"rows: token {int(x.max())} is outside the vocabulary of {spec.vocabulary}")
        return x

    def _columns(self, rows: Any) -> Any:
        x, none = as_examples(rows, None, "rows:")
        if isinstance(x, InputColumns):
            shapes = {column.name: column.shape for column in self.task.spec.columns}
            x = InputColumns({name: _as_long(one, shapes.get(name, ())) for name, one in x.columns.items()})
        if not len(x):
            raise ConfigError("rows: there are no rows")
        check_fits(x, none, replace(self.task.spec, task="regression", outputs=0, target=()), "rows")
        return x


def _as_long(x: Any, shape: tuple[int, ...]) -> Any:
    """Return sequences of different lengths padded as those of training, where they are no longer."""
    if isinstance(x, Ragged) and shape and x.longest <= shape[0]:
        return x.changed(length=shape[0])
    return x


def outputs_of(
    module: nn.Module,
    *,
    rows: int = MOST_ROWS,
    seed: int = 0,
    round: int = 0,
    device: torch.device = CPU,
    precision: Precision = "fp32",
    deterministic: bool = True,
    augment: Augment | None = None,
) -> Outputs:
    """Return the outputs of a module, as :func:`fedray.experiment.evaluate.evaluate_model` has them: the same bits.

    Args:
        module: the model, on ``device``.
        rows: examples that are done at once.
        seed: names, with ``round``, what the model draws.
        round: the round in which a run evaluates this model, the one after that which made it.
        device: the device of the model.
        precision: as ``local.precision``.
        deterministic: as ``local.deterministic``.
        augment: the changes of inputs.
    """

    def values(output: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"output": output}

    evaluator = Evaluator(module, cross_entropy, values, seed, device, precision, augment=augment or Augment())
    return ModuleOutputs(evaluator, rows, round, device, precision, deterministic)


@dataclass(frozen=True)
class ModuleOutputs:
    """The outputs of a module, see :func:`outputs_of`."""

    evaluator: Evaluator
    rows: int
    round: int
    device: torch.device
    precision: Precision
    deterministic: bool

    @property
    def go_on(self) -> GoOn | None:
        """The module where it keeps keys and values of tokens; None: it does not."""
        return self.evaluator.go_on

    def __call__(self, x: Tensor) -> Tensor:
        take = take_from(Examples(x, torch.zeros(len(x))), self.device)
        parts = []
        with cuda_kernels(self.precision, self.deterministic) if self.device.type == "cuda" else nullcontext():
            for chunk in TestChunk.cut(len(x), self.rows):
                with self.evaluator.named(self.round, chunk.index):
                    parts.append(self.evaluator.values(take, chunk.stop, chunk.start)["output"])
        return torch.from_numpy(np.concatenate(parts)).to(torch.float32)
