"""The columns of several tables: which are inputs, and if every file has what is wanted."""

from __future__ import annotations

from collections.abc import Sequence

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed
from fedray.data.encoding import questions
from fedray.data.encoding.advice import CONFIG
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.encoding.questions import Outline
from fedray.data.encoding.reading import single_but_separated


def input_columns(outlines: Sequence[Outline], options: Options, column: str | None = None) -> list[str]:
    """Return the columns that are inputs, in their order.

    They are those that are chosen; else those of the first file, and with ``missing_columns: impute`` those of the
    others after them.

    Args:
        outlines: of the training files.
        options: the options for reading them.
        column: names the clients of rows, and is no input.
    """
    if options.columns is not None:
        return list(options.columns)
    files = outlines if options.missing_columns == "impute" else outlines[:1]
    every = dict.fromkeys(name for outline in files for name in outline.columns)
    return [name for name in every if name not in (options.target, column, *options.ignore)]


def check_columns(
    outlines: Sequence[Outline],
    tests: Sequence[Outline],
    options: Options,
    column: str | None = None,
    encoding: Encoding | None = None,
) -> None:
    """Raise ConfigError unless all files have the columns that are wanted, and some rows.

    Args:
        outlines: of the training files; none, if there is an encoding.
        tests: of the test files.
        options: the options for reading them.
        column: names the clients of the rows of training files, and is no input.
        encoding: of a run, whose columns are wanted; else those of the first file, and the declared ones.
    """
    files = [*outlines, *tests]
    inputs = input_columns(outlines, options, column) if encoding is None else encoding.order
    whose = outlines[0].path if encoding is None else "the table that the model was trained on"
    for outline in files:
        _check_target(outline, options.target)
        check_inputs(outline, inputs, options, whose, known=encoding is not None)
        if column is not None and column not in outline.columns and outline not in tests:
            raise ConfigError(f"{outline.path} has no column {column!r}, which names the clients of rows")
        for name in () if options.columns is not None else outline.columns:
            if name not in inputs and name not in (options.target, column, *options.ignore):
                impute = (
                    "" if encoding is not None else ", or fill it in where it is missing: `missing_columns: impute`"
                )
                raise ConfigError(
                    f"{outline.path} has a column {name!r} that {whose} lacks; columns are matched by name; "
                    f"to do without it: `ignore: [{name}]`{impute}"
                )
    if encoding is None:
        _check_declared(outlines, inputs, options)
    for name in options.ignore if outlines else ():
        if not any(name in outline.columns for outline in files):
            raise ConfigError(f"ignore: {name!r} is a column of no file{nearest(name, outlines[0].columns)}")
    for outline in files:
        if outline.rows == 0:
            raise ConfigError(f"{outline.path} has no rows; neither a client nor a test set can be empty")


def _check_target(outline: Outline, target: str) -> None:
    if target in outline.columns:
        return
    looks = any(questions.all_numbers({name}) for name in outline.columns)
    hint = "; its first line looks like data: is the header missing?" if looks else ""
    if single_but_separated(outline.columns):
        hint = CONFIG.delimiter
    raise ConfigError(
        f"{outline.path} has no target column {target!r}{nearest(target, outline.columns)}; "
        f"its columns: {listed(outline.columns)}{hint}"
    )


def check_inputs(outline: Outline, inputs: Sequence[str], options: Options, whose: str, *, known: bool) -> None:
    """Raise ConfigError if a file lacks a column that is wanted, unless it is to be filled in.

    Args:
        outline: of the file.
        inputs: the columns that are wanted.
        options: the options for reading it.
        whose: the place where they are, in words.
        known: they are those of an encoding.
    """
    lacking = [name for name in inputs if name not in outline.columns]
    if len(lacking) == len(inputs) and inputs:
        raise ConfigError(
            f"{outline.path} has none of the columns {listed(inputs)}; its columns: {listed(outline.columns)}"
        )
    if options.missing_columns == "impute" or not lacking:
        return
    name = lacking[0]
    if options.columns is not None and not known:
        raise ConfigError(
            f"columns: {outline.path} has no column {name!r}{nearest(name, outline.columns)}; name another, or fill it "
            "in where it is missing: `missing_columns: impute`"
        )
    renamed = nearest(name, [other for other in outline.columns if other not in inputs])
    without = f"; to do without it: `ignore: [{name}]`, or fill it in: `missing_columns: impute`"
    raise ConfigError(
        f"{outline.path} has no column {name!r}{renamed}, but {whose} has; columns are matched by name"
        f"{'' if known else without}"
    )


def _check_declared(outlines: Sequence[Outline], inputs: Sequence[str], options: Options) -> None:
    """Raise ConfigError if something is said of a column that is no input, or of a file that is none."""
    whose = outlines[0].path
    said = {
        "categorical": {**options.declared, **options.hashed},
        "ordinal": options.ordinal,
        "missing": options.missing,
    }
    for key, names in said.items():
        for name in names:
            if name == options.target and key != "missing":
                raise ConfigError(f"{key}: {name!r} is the target")
            if name not in inputs and name != options.target:
                raise ConfigError(f"{key}: {name!r} is no column of {whose}{nearest(name, inputs)}")
