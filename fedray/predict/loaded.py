"""A predictor from a run folder: of its config what makes the model, of a checkpoint its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.data.augment import Augment, chosen
from fedray.data.columns.probe import drawn
from fedray.experiment.evaluate import Which, checkpoint_of, device_named
from fedray.predict.kept import Rest, encoding_of, meaning_of
from fedray.predict.predictor import Predictor, outputs_of
from fedray.run.evaluation import rows_at_once
from fedray.run.models import load_frozen, no_model
from fedray.run.snapshot import layout_of, model_of
from fedray.rundir.folder import RunFolder

ModelFn = Callable[[], nn.Module]


def load(
    path: str | Path,
    *,
    round: Which = None,
    client: str | None = None,
    model: ModelFn | str | Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Predictor:
    """Load the model of a run for predictions; nothing but its folder is needed, neither data nor a cluster.

    A model of one's own, ``my_module:name`` in the config, is imported from the working directory.

    >>> from tempfile import TemporaryDirectory
    >>> import fedray
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("age,ill\\n20,no\\n30,no\\n70,yes\\n80,yes\\n")
    ...     data = fedray.FederatedData.from_csv([f"{folder}/a.csv"], target="ill")
    ...     args = fedray.TrainArgs(rounds=20, optimizer={"name": "sgd", "lr": 1.0})
    ...     model = fedray.FederatedModel("logistic")
    ...     _ = fedray.train(model, data, args, cluster="inline", run_dir=f"{folder}/run", progress=False)
    ...     predictor = fedray.load(f"{folder}/run")
    ...     found = predictor.predict({"age": [25, 75], "patient": ["x", "y"]})
    >>> found.predicted, predictor.classes_, sorted(found.columns())
    (array(['no', 'yes'], dtype='<U3'), array(['no', 'yes'], dtype='<U3'), ['no', 'patient', 'predicted', 'yes'])

    Args:
        path: the run folder.
        round: of the checkpoint; ``"best"``: by ``checkpoint.best``; the newest good one by default.
        client: take the personal model of this client, where clients have models of their own.
        model: makes the module, where the config does not say it, as that of a run from Python with a function of
            one's own; or the name of a model as a config has it.
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Returns:
        The model, with ``predict``, ``predict_proba`` and ``classes_``.

    Raises:
        ConfigError: no run or no checkpoint there, a model that cannot be built here, no such client.
    """
    folder = RunFolder(Path(path))
    folder.config()
    if client is not None:
        from fedray.predict.personal import personal

        return personal(folder, client, round, model, device)
    return global_model(folder, round, model, device)


def global_model(folder: RunFolder, round: Which, model: Any, device: str) -> Predictor:
    """Return the predictor of the server's model of a run."""
    place, saved = device_named(device), checkpoint_of(folder, round)
    layout = layout_of(saved)
    if words := no_model(layout, saved.state.get("global_model", True)):
        raise ConfigError(f"{folder.path}: {words}; take the model of one of them: --client ID, or load(..., client=)")
    rest = Rest.of(folder)
    meaning, task = meaning_of(folder, saved, rest)
    module = rest.module(meaning, task, model)
    load_frozen(saved.state, layout, module, folder.path)
    try:
        layout.load(module, model_of(saved))
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"model: it is not the one that the run has trained: {str(error).splitlines()[0]}") from None
    encoding, augment = encoding_of(folder, saved), Augment(chosen(folder.inputs() or ()))
    example = drawn(meaning.spec, 2, torch.Generator().manual_seed(0))
    outputs = outputs_of(
        module.to(place),
        rows=rows_at_once(rest.batch_size, module, example.to(place)),  # type: ignore[arg-type]
        seed=rest.seed,
        round=saved.round + 1,
        device=place,
        precision=rest.local.precision,
        deterministic=rest.local.deterministic,
        augment=augment,
    )
    return Predictor(task, outputs, encoding, saved.round)
