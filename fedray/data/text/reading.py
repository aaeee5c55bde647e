"""Files of text as the examples of clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, counted
from fedray.core.stages import along
from fedray.data.columns.arrays import Columns, by_client
from fedray.data.columns.small import smallest
from fedray.data.files.own_tests import TestFiles, named_files, own_files
from fedray.data.partition import assign_rows
from fedray.data.spec import DataSpec
from fedray.data.text.cache import kept, key_of
from fedray.data.text.files import columns_in, text_files
from fedray.data.text.formats import Format
from fedray.data.text.inputs import learning, masked, masked_columns, paired, spec_of
from fedray.data.text.options import TextOptions
from fedray.data.text.packing import Sequences, cut, packed, packed_whole
from fedray.data.text.targets import Targets, joined
from fedray.data.text.tokenizers import template_of, tokenizer_of
from fedray.data.text.tokens import Tokens, closing, tokens_of
from fedray.rundir.names import cache_folder


def read_text(train: Any, test: TestFiles, options: TextOptions) -> Columns:
    """Read files of text; see ``FederatedData.from_text``."""
    held = _named(test, options)
    files = text_files(train, "train", held)
    names = [file.stem for file in files] if options.by_file else None
    held, numbers = _owned(test, held, names)
    reader = _Reader(files[0], options, names)
    found = [reader.read(file) for file in along(files, "tokenising text")]
    reader.check(found[0])
    rows = _joined(found, _owners(found, options))
    training, tested, pieces = reader.sized(rows, "training"), None, list[Tokens]()
    if held:
        pieces = [reader.read(file, test=True) for file in along(held, "tokenising the test set")]
        tested = reader.sized(_joined(pieces, _test_owners(pieces, numbers, rows.owners, options)), "test")
    used = [one for one in (training, tested) if one is not None]
    length = max(1, *(int(np.diff(one.offsets).max()) for one in used))
    if options.targets:
        sets, spec = _labelled(used, [found, pieces], length, options)
    elif options.pairs:
        asked = reader.asking()
        prompts = [
            asked.prompts(files, training, "training"),
            *([asked.prompts(held, tested, "test")] if tested else []),
        ]
        sets, spec = paired(prompts, used, found[0].pad, found[0].vocabulary)
    else:
        sets = [learning(one, found[0].pad, found[0].vocabulary, length) for one in used]
        spec = spec_of(length, found[0].vocabulary, options.whole)
    columns = by_client(
        *sets[0],
        training.owners,
        test=sets[1] if tested is not None else None,
        test_clients=None if tested is None or tested.owners.dtype.kind == "f" else tested.owners,
        ids=names,
        spec=spec,
    )
    return replace(columns, notes=(*columns.notes, *reader.notes()), taken={"text": reader.taken(found[0])})


def _named(test: TestFiles, options: TextOptions) -> list[Path]:
    """Return all files of test sets."""
    if isinstance(test, Mapping) and not options.by_file:
        raise ConfigError("test: a file for each client needs clients: file, where each file is a client")
    if test is None:
        return []
    return text_files(named_files(test) if isinstance(test, Mapping) else test, "test")


def _owned(test: TestFiles, held: list[Path], names: Sequence[str] | None) -> tuple[list[Path], Sequence[int] | None]:
    """Return the files of test sets, and the number of the client whose own each is, -1 for nobody's; None: all are."""
    if names is None or not held:
        return held, None
    if (own := own_files(test, names)) is not None:
        return [file for file, _ in own], [number for _, number in own]
    if Path(str(test)).is_dir():
        return held, [names.index(file.stem) if file.stem in names else -1 for file in held]
    return held, None


def _owners(found: Sequence[Tokens], options: TextOptions) -> NDArray[Any]:
    """Return whose each row is, ``[N]``."""
    if options.by_file:
        return np.repeat(np.arange(len(found)), [len(one) for one in found])
    if options.partitioner is None:
        return _beside(found, options.column)
    beside = {} if options.column is None else {options.column: _beside(found, options.column)}
    if options.splits_by is not None:
        return assign_rows(options.partitioner, _beside(found, options.splits_by), beside, options.seed)
    try:
        # Rows of text are of no class: who asks for some says so.
        return assign_rows(options.partitioner, np.zeros(sum(map(len, found))), beside, options.seed)
    except ConfigError as error:
        raise ConfigError(f"{error}; of text, data.label names the column of the classes") from None


def _beside(found: Sequence[Tokens], column: str | None) -> NDArray[Any]:
    assert column is not None
    return np.concatenate([one.beside[column] for one in found])


def _test_owners(
    held: Sequence[Tokens], numbers: Sequence[int] | None, owners: NDArray[Any], options: TextOptions
) -> NDArray[Any]:
    """Return whose each row of the test set is: numbers, or names; floats: they are nobody's."""
    if numbers is not None:
        return np.repeat(np.asarray(numbers), [len(one) for one in held])
    if options.column is None or any(options.column not in one.beside for one in held):
        return np.zeros(sum(map(len, held)))
    names = _beside(held, options.column)
    return np.where(np.isin(names, owners), names, "")


def _joined(found: Sequence[Tokens], owners: NDArray[Any]) -> Sequences:
    lengths, kind = np.concatenate([np.diff(one.offsets) for one in found]), smallest(found[0].vocabulary)
    return Sequences(
        np.concatenate([one.ids for one in found], dtype=kind, casting="unsafe"),
        np.concatenate([one.learnt for one in found]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        owners,
    )


def _labelled(
    used: Sequence[Sequences], files: Sequence[Sequence[Tokens]], length: int, options: TextOptions
) -> tuple[list[tuple[Any, Any]], DataSpec]:
    """Return texts with their targets, the training ones and those of a test set, and their specification."""
    like, names = files[0][0], options.targets
    said = [joined([one.beside for one in tokens], names) for tokens in files if tokens]
    targets = Targets.learnt(options, said[0])
    sets = [
        (masked(rows, like.pad, length), targets.of(own, where))
        for rows, own, where in zip(used, said, ("training", "test"), strict=False)
    ]
    return sets, targets.spec(masked_columns(length, like.vocabulary))


class _Reader:
    """Reads files, and counts what it finds.

    Args:
        first: a file, whose columns say the format where nobody does.
        options: the options.
        names: the clients, where each file is one.
    """

    def __init__(self, first: Path, options: TextOptions, names: Sequence[str] | None) -> None:
        self.options, self.names = options, names
        self.form = Format.of(options.format, columns_in(first), first)
        if options.targets and self.form.text is None:
            raise ConfigError(
                "data.format: with data.target a text is the input, as in {text: body} or {text: '{title}: {body}'}; "
                "prompts with completions, and chats, are for task: causal_lm, without a target"
            )
        self.said = self.form
        if options.pairs:
            self.form = self.form.halves()[1]
        self.tokenizer = tokenizer_of(options.tokenizer)
        self.folder = cache_folder("text")
        self.how: Counter[str] = Counter()
        self.told: list[str] = []

    def asking(self) -> _Reader:
        """Return a reader of the prompts of the same files."""
        found = copy(self)
        found.form = self.said.halves()[0]
        return found

    def prompts(self, files: Sequence[Path], answers: Sequences, what: str) -> Sequences:
        """Return the prompts of the rows of files, as :meth:`sized` does.

        Args:
            files: the files.
            answers: their completions.
            what: the rows, in words.
        """
        return self.sized(
            _joined([self.read(file, what == "test") for file in files], answers.owners), f"{what} prompts"
        )

    def read(self, file: Path, test: bool = False) -> Tokens:
        """Return the tokens of a file, from the disk where they are."""
        options = self.options
        beside = [one for one in (options.column, None if test else options.label) if one is not None]
        if test:
            there = columns_in(file) if beside else []
            beside = [one for one in beside if one in there]
        beside = list(dict.fromkeys((*beside, *options.targets)))
        make = partial(tokens_of, file, self.form, self.tokenizer, beside)
        found = kept(self.folder, key_of(file, self.form, self.tokenizer, beside), make)
        self.how[found.how] += 1
        return found.tokens

    def check(self, tokens: Tokens) -> None:
        """Raise ConfigError where the tokenizer lacks a token that is needed."""
        if self.options.packing and not self.options.whole and tokens.end < 0 and self.form.messages is None:
            raise ConfigError(
                "data.packing: rows are told apart by the token that ends each, and this tokenizer has none: set "
                "tokenizer.eos_token and save it again, or leave packing out"
            )
        if tokens.pad < 0:
            raise ConfigError(
                "data.tokenizer: it has neither a token for padding nor one that ends a text: set tokenizer.pad_token "
                "and save it again"
            )

    def sized(self, rows: Sequences, what: str) -> Sequences:
        """Return examples of rows: cut or packed, and without those that have nothing to learn."""
        options, limit = self.options, self.options.max_length
        count, tokens = len(rows.owners), len(rows.ids)
        said = f"{what}: {counted(count, 'row')}, {tokens:,} tokens"
        if options.targets or options.pairs:
            return self._closed(rows, said)
        said += f", {int(rows.targets().sum()):,} of them targets"
        found = rows
        if limit is not None and options.packing:
            found = (packed_whole if options.whole else packed)(rows, limit)
            said += f"; packed into {counted(len(found.owners), 'sequence')} of up to {limit:,}"
            if options.whole:
                filled = len(found.ids) / (limit * len(found.owners))
                longer = int((np.diff(rows.offsets) > limit).sum())
                said += f", {filled:.0%} full, rows whole; {longer:,} cut to {limit:,} tokens"
        elif limit is not None:
            longer = int((np.diff(rows.offsets) > limit).sum())
            found = cut(rows, limit)
            said += f"; {longer:,} cut to {limit:,} tokens"
        full = found.targets() > 0
        if not full.all():
            said += f"; {int((~full).sum()):,} of them left out, as nothing in it is learnt"
            found = found.where(full)
        lost = np.setdiff1d(rows.owners, found.owners)
        if len(lost) and (what == "training" or not len(found.owners)):
            who = (
                f"client {lost[0] if self.names is None else self.names[int(lost[0])]}" if what == "training" else "it"
            )
            where = "" if limit is None else f" within max_length={limit:,}"
            raise ConfigError(f"data, {what}: no token of {who} is learnt{where}; a prompt may fill it")
        self.told.append(said)
        return found

    def _closed(self, rows: Sequences, said: str) -> Sequences:
        """Return texts that are one of two sequences, or have a target, none too long; what ends a text stays."""
        limit, behind = self.options.max_length, closing(self.tokenizer)
        if limit is not None:
            if limit <= behind:
                raise ConfigError(f"max_length={limit}: {counted(behind, 'token')} of it ends each text; take more")
            said += f"; {int((np.diff(rows.offsets) > limit).sum()):,} cut to {limit:,} tokens"
            rows = cut(rows, limit, behind)
        if not np.diff(rows.offsets).all():
            raise ConfigError("data.tokenizer: it makes no token of one of the texts; leave that row out")
        self.told.append(said)
        return rows

    def taken(self, tokens: Tokens) -> dict[str, Any]:
        """Return what predictions need to read text as it was read here, ready for JSON."""
        options = self.options
        return {
            "tokenizer": options.tokenizer,
            "format": {**asdict(self.said), "chat_template": template_of(self.said.chat_template)},
            "max_length": options.max_length,
            "packing": options.packing,
            "end": tokens.end if tokens.end >= 0 else None,
            "pad": tokens.pad,
            **({"target": list(options.targets)} if options.targets else {}),
            **({"pairs": True} if options.pairs else {}),
        }

    def notes(self) -> tuple[str, ...]:
        """Return lines for the log."""
        words = {"read": "read from", "made": "made and kept in", "damaged": "damaged, and made again, in"}
        how = ", ".join(
            f"of {counted(self.how[one], 'file')} {said} {self.folder}" for one, said in words.items() if self.how[one]
        )
        return (*(f"text, {one}" for one in self.told), f"text, tokens by {self.options.tokenizer}: {how}")
