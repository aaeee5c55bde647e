"""Formats of rows: text, a prompt and its completion, or messages of a chat; each says what of a row is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

from fedray.core.errors import ConfigError, listed
from fedray.data.text.files import Row

Span = tuple[int, int]
"""The beginning and the end of a piece of text, in characters."""

USUAL = (("text",), ("prompt", "completion"), ("messages",))
"""The columns by which a format is known, where a config names none."""


@dataclass(frozen=True)
class Template:
    """Text with the names of columns in braces; a name without braces is that of a column.

    >>> Template("### Q: {question}\\n### A: ").columns, Template("answer").filled({"answer": "Yes."}, "row 1")
    (('question',), 'Yes.')

    Args:
        said: the template; ``{{`` and ``}}`` are braces.

    Raises:
        ConfigError: braces that do not match, or hold more than a name.
    """

    said: str
    pieces: tuple[tuple[str, str | None], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            parsed = [(text, name, spec, how) for text, name, spec, how in Formatter().parse(self.said)]
        except ValueError as error:
            raise ConfigError(f"{self.said!r}: {error}; write {{{{ and }}}} for braces that name no column") from None
        for _, name, spec, how in parsed:
            if name is not None and (not name or spec or how):
                raise ConfigError(
                    f"{self.said!r}: braces hold the name of a column and nothing else; write {{{{ and }}}} for others"
                )
        pieces = tuple((text, name) for text, name, _, _ in parsed)
        if not any(name for _, name in pieces):
            if not self.said or self.said != "".join(text for text, _ in pieces) or "\n" in self.said:
                raise ConfigError(f"{self.said!r}: name a column, as in 'text', or 'Question: {{question}}'")
            pieces = (("", self.said),)
        object.__setattr__(self, "pieces", pieces)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it takes, in order."""
        return tuple(dict.fromkeys(name for _, name in self.pieces if name is not None))

    def filled(self, row: Row, where: str) -> str:
        """Return the text of a row.

        Raises:
            ConfigError: a column is neither text nor a number.
        """
        parts = []
        for text, name in self.pieces:
            parts.append(text)
            if name is not None:
                value = row[name]
                if not isinstance(value, str | int | float):
                    more = "; messages of a chat are format: {messages: ...}" if isinstance(value, list) else ""
                    raise ConfigError(f"{where}: column {name!r} is no text, but {type(value).__name__}{more}")
                parts.append(str(value))
        return "".join(parts)


@dataclass(frozen=True)
class Format:
    """The text of a row, and what of it is learnt.

    One of ``text``, of ``prompt`` with ``completion``, and of ``messages`` is said.

    >>> qa = Format(prompt="Q: {question} A: ", completion="answer")
    >>> qa.columns, qa.pair({"question": "2 + 2?", "answer": 4}, "row 1")
    (('question', 'answer'), ('Q: 2 + 2? A: ', '4'))

    Args:
        text: a column, or a template of columns; all of it is learnt.
        prompt: a column or template; it is read.
        completion: a column or template, which follows the prompt and is learnt.
        messages: the column of a chat, a list of ``{role: ..., content: ...}``; what assistants say is learnt.
        chat_template: Jinja text, or a file of it, instead of the tokenizer's own.
        completion_only_loss: False: prompts, and all messages, are learnt as well.

    Raises:
        ConfigError: none or several kinds are said, or half of one.
    """

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    chat_template: str | None = None
    completion_only_loss: bool = True

    def __post_init__(self) -> None:
        kinds = [kind for kind in USUAL if any(getattr(self, name) is not None for name in kind)]
        if len(kinds) != 1 or any(getattr(self, name) is None for name in kinds[0]):
            said = listed([name for kind in USUAL for name in kind if getattr(self, name) is not None], "nothing")
            raise ConfigError(
                f"format: say text, or prompt and completion, or messages, and no two of these; got {said}"
            )
        for template in self.templates:
            if not template.columns:
                raise ConfigError(f"format: {template.said!r} names no column")
        if self.chat_template is not None and self.messages is None:
            raise ConfigError("format.chat_template: it is for messages; leave it out")
        if self.text is not None and not self.completion_only_loss:
            raise ConfigError("format.completion_only_loss: of text all is learnt; leave it out")

    @classmethod
    def of(cls, said: Any, there: Sequence[str], file: Path) -> Format:
        """Return the format that a config says; of one that says none, that of the columns of a file.

        Args:
            said: the value of ``data.format``: a column of text, options, or None.
            there: the columns of the file.
            file: the file, for errors.

        Raises:
            ConfigError: the columns are those of no format, or of several.
        """
        from fedray.config.registry import bind

        if isinstance(said, str):
            return cls(text=said)
        if said is not None and not isinstance(said, Mapping):
            raise ConfigError(f"data.format: expected a column, or a section such as {{text: body}}, got {said!r}")
        if isinstance(said, Mapping) and any(said.get(name) is not None for kind in USUAL for name in kind):
            found: Format = bind(cls, said, "data.format")
            return found
        fits = [kind for kind in USUAL if all(name in there for name in kind)]
        if len(fits) != 1:
            raise ConfigError(
                f"data.format: {file} has the columns {listed(there)}; say which are what, as in {{text: body}}, "
                "{prompt: '### Q: {question}', completion: answer} or {messages: chat}"
            )
        return bind(cls, {**(said or {}), **{name: name for name in fits[0]}}, "data.format")

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """Its templates: of the text, or of prompt and completion."""
        return tuple(Template(one) for one in (self.text, self.prompt, self.completion) if one is not None)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it takes."""
        if self.messages is not None:
            return (self.messages,)
        return tuple(dict.fromkeys(name for template in self.templates for name in template.columns))

    def halves(self) -> tuple[Format, Format]:
        """Return the formats of prompts alone, and of completions alone, each as text.

        Raises:
            ConfigError: it has none.
        """
        if self.prompt is None or self.completion is None:
            raise ConfigError(
                "data.format: with data.pairs, as task: seq2seq_lm has it, the prompt is read and the completion is "
                "said: {prompt: question, completion: answer}"
            )
        if not self.completion_only_loss:
            raise ConfigError("format.completion_only_loss: with data.pairs no prompt is said; leave it out")
        return Format(text=self.prompt), Format(text=self.completion)

    def pair(self, row: Row, where: str) -> tuple[str, str]:
        """Return the prompt, empty for plain text, and what follows it.

        Raises:
            ConfigError: one of them is empty.
        """
        found = [template.filled(row, where) for template in self.templates]
        for name, one in zip(("prompt", "completion") if len(found) > 1 else ("text",), found, strict=True):
            if not one.strip():
                raise ConfigError(f"{where}: the {name} is empty; leave the row out")
        return (found[0], found[1]) if len(found) > 1 else ("", found[0])

    def chat(self, row: Row, where: str) -> list[dict[str, Any]]:
        """Return the messages of a row.

        Raises:
            ConfigError: they are no messages.
        """
        assert self.messages is not None
        found = row[self.messages]
        if not isinstance(found, list) or not found:
            raise ConfigError(f"{where}: column {self.messages!r} is a list of messages, and is not empty")
        for one in found:
            if not isinstance(one, dict) or not isinstance(one.get("role"), str) or one.get("content") is None:
                raise ConfigError(f'{where}: a message is {{"role": ..., "content": ...}}; this is {one!r:.60}')
        # Parquet has the fields of all messages in each, which templates would take for said.
        return [{name: value for name, value in one.items() if value is not None} for one in found]

    def check_learnt(self, messages: Sequence[Row], where: str) -> None:
        """Raise ConfigError where nothing of the messages of a row is learnt."""
        if self.completion_only_loss and not any(one["role"] == "assistant" for one in messages):
            raise ConfigError(
                f"{where}: no message is an assistant's, so that there is nothing to learn; leave the row out, or say "
                "format.completion_only_loss: false"
            )
