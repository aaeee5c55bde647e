"""A predictor from a run folder: of its config what makes the model, of a checkpoint its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fedray.data.augment_chain import Augment, chosen
from fedray.experiment.evaluate import Which, checkpoint_of, device_named
from fedray.predict.kept import Rest, encoding_of, example_of, meaning_of, trained
from fedray.predict.predictor import Predictor, outputs_of
from fedray.predict.rows import taken_by
from fedray.run.evaluation import rows_at_once
from fedray.rundir.folder import RunFolder

ModelFn = Callable[[], nn.Module]


def load(
    path: str | Path,
    *,
    round: Which = None,
    client: str | None = None,
    model: ModelFn | str | Mapping[str, Any] | None = None,
    device: str = "cpu",
    threshold: float | None = None,
) -> Predictor:
    """Load the model of a run for predictions; nothing but its folder, or an export, is needed.

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
        path: the run folder; or a model that ``fedray export`` has written.
        round: of the checkpoint; ``"best"``: by ``checkpoint.best``; the newest good one by default.
        client: take the personal model of this client, where clients have models of their own.
        model: makes the module, where the config does not say it, as that of a run from Python with a function of
            one's own; or the name of a model as a config has it.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        threshold: of two classes the probability of the second one above which it is predicted; default: that of the
            run's task.

    Returns:
        The model, with ``predict``, ``predict_proba`` and ``classes_``.

    Raises:
        ConfigError: no run or no checkpoint there, a model that cannot be built here, no such client, a threshold of a
            task that has none.
    """
    found = _loaded(path, round, client, model, device)
    return found if threshold is None else found.at(threshold)


def _loaded(path: str | Path, round: Which, client: str | None, model: Any, device: str) -> Predictor:
    if Path(path).is_file():
        from fedray.predict.exported import load_export

        return load_export(Path(path), round, client, model, device)
    folder = RunFolder(Path(path))
    folder.config()
    if client is not None:
        from fedray.predict.personal import personal

        return personal(folder, client, round, model, device)
    return global_model(folder, round, model, device)


def global_model(folder: RunFolder, round: Which, model: Any, device: str) -> Predictor:
    """Return the predictor of the server's model of a run."""
    place, saved = device_named(device), checkpoint_of(folder, round)
    rest = Rest.of(folder)
    meaning, task = meaning_of(folder, saved, rest)
    module = trained(folder, saved, rest, meaning, task, model).to(place)
    outputs = outputs_of(
        module,
        rows=rows_at_once(rest.batch_size, module, example_of(meaning).to(place)),  # type: ignore[arg-type]
        seed=rest.seed,
        round=saved.round + 1,
        device=place,
        precision=rest.local.precision,
        deterministic=rest.local.deterministic,
        augment=Augment(chosen(folder.inputs() or ())),
    )
    return Predictor(task, outputs, encoding_of(folder, saved), saved.round, taken_by(meaning, rest))
