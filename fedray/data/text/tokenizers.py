"""From text to tokens: the tokenizers of Hugging Face from a folder, and bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fedray.core.errors import ConfigError, one_line
from fedray.data.text.formats import Span

BYTES = "bytes"
"""The name of the tokenizer that needs no files."""

_NEEDED = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


class Encoded(NamedTuple):
    """The tokens of a piece of text.

    Args:
        ids: the tokens, int64 ``[T]``.
        ends: the beginning and the end of each in the text, in characters, int64 ``[T, 2]``; 0 and 0 for one that the
            tokenizer has added.
    """

    ids: NDArray[np.int64]
    ends: NDArray[np.int64]


class Tokenizer(Protocol):
    """The questions that a tokenizer answers.

    Args:
        vocabulary: the number of tokens.
        end: the token that ends a text; None: it has none.
        pad: the token that stands behind a text; None: it has none.
    """

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""
        ...

    @property
    def end(self) -> int | None:
        """The token that ends a text; None: there is none."""
        ...

    @property
    def pad(self) -> int | None:
        """The token that stands behind a text; None: there is none."""
        ...

    def encode(self, texts: Sequence[str], special: bool) -> list[Encoded]:
        """Return the tokens of texts; ``special``: with those that the tokenizer sets before and behind a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without those that are no text."""
        ...

    def marks(self) -> Iterable[tuple[str, bytes]]:
        """Yield all that the tokens depend on, by names."""
        ...


@dataclass(frozen=True)
class Bytes:
    """The 256 bytes of UTF-8, and an end: a tokenizer for which nothing is to be had.

    >>> tokens = Bytes().encode(["né"], special=False)[0]
    >>> tokens.ids.tolist(), tokens.ends.tolist()
    ([110, 195, 169], [[0, 1], [1, 2], [1, 2]])
    """

    vocabulary: int = 257
    end: int | None = 256
    pad: int | None = 256

    def encode(self, texts: Sequence[str], special: bool) -> list[Encoded]:
        """Return the bytes of texts, and to which character each belongs; none is special."""
        found = []
        for text in texts:
            widths = [len(letter.encode()) for letter in text]
            place = np.repeat(np.arange(len(text)), widths)
            ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
            found.append(Encoded(ids, np.stack([place, place + 1], axis=1)))
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of bytes; half of a character becomes U+FFFD."""
        return bytes(one for one in ids if one < 256).decode(errors="replace")

    def marks(self) -> Iterable[tuple[str, bytes]]:
        """Yield its name."""
        yield BYTES, b""


@dataclass(frozen=True)
class Pretrained:
    """A tokenizer of Hugging Face in a folder that ``save_pretrained`` wrote (``pip install fedray[llm]``).

    Nothing is downloaded, and no code of the folder runs.

    Args:
        folder: the folder, or that of a model, which has its tokenizer beside it.

    Raises:
        ConfigError: there is no such folder, or no tokenizer in it.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not any((self.folder / name).is_file() for name in _NEEDED):
            raise ConfigError(
                f"data.tokenizer: there is no tokenizer in {self.folder} (current folder: {Path.cwd()}); a folder as "
                f"save_pretrained writes it is needed, as nothing is downloaded, or the word {BYTES}"
            )

    @cached_property
    def loaded(self) -> Any:
        """The tokenizer, which takes seconds to import.

        Raises:
            ConfigError: a package is missing, it cannot be read, or does not say which characters its tokens are.
        """
        try:
            transformers: Any = import_module("transformers")
        except ImportError as error:
            raise ConfigError(
                f"data.tokenizer: {self.folder} needs the package transformers ({one_line(error)}); install it: "
                "pip install 'fedray[llm]'"
            ) from None
        try:
            found = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, RuntimeError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
            raise ConfigError(f"data.tokenizer: {self.folder} cannot be read: {one_line(error)}") from None
        if not found.is_fast:
            raise ConfigError(
                f"data.tokenizer: {self.folder} does not say which characters its tokens are; one with a "
                "tokenizer.json is needed"
            )
        return found

    @property
    def vocabulary(self) -> int:
        """The number of tokens, those added included."""
        return 1 + max(map(int, self.loaded.get_vocab().values()))

    @property
    def end(self) -> int | None:
        """Its end-of-sequence token."""
        found: int | None = self.loaded.eos_token_id
        return found

    @property
    def pad(self) -> int | None:
        """Its padding token; where it has none, the one that ends a text, as is usual."""
        found: int | None = self.loaded.pad_token_id
        return self.end if found is None else found

    def encode(self, texts: Sequence[str], special: bool) -> list[Encoded]:
        """Return the tokens of texts, none of which is cut."""
        given = self.loaded(
            list(texts), add_special_tokens=special, return_offsets_mapping=True, return_attention_mask=False,
            return_token_type_ids=False, truncation=False, verbose=False,
        )  # fmt: skip
        return [
            Encoded(np.asarray(ids, dtype=np.int64), np.asarray(ends, dtype=np.int64).reshape(-1, 2))
            for ids, ends in zip(given["input_ids"], given["offset_mapping"], strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without those that the tokenizer calls special."""
        found: str = self.loaded.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return found

    def marks(self) -> Iterable[tuple[str, bytes]]:
        """Yield its files but for weights, and the versions of the packages that read them."""
        for name in ("transformers", "tokenizers"):
            try:
                yield name, version(name).encode()
            except PackageNotFoundError:
                yield name, b"none"
        for file in sorted(self.folder.iterdir()):
            known = file.suffix in (".json", ".txt", ".jinja") or file.name in _NEEDED
            if known and file.is_file() and ".index." not in file.name:
                yield file.name, file.read_bytes()


def tokenizer_of(said: str) -> Tokenizer:
    """Return the tokenizer that a config names: a folder, or ``bytes``.

    Raises:
        ConfigError: there is no tokenizer.
    """
    return Bytes() if said == BYTES else Pretrained(Path(said))


class Chat:
    """Messages as the text that a template makes of them, and where in it assistants speak.

    Args:
        tokenizer: the tokenizer, which may have a template.
        said: the template, as Jinja text, or a file of it; None: the tokenizer's.
        trains: the chats are learnt; False: they are those of a prediction, for advice.

    Raises:
        ConfigError: there is none, or a package is missing.
    """

    def __init__(self, tokenizer: Tokenizer, said: str | None, trains: bool = True) -> None:
        self.trains = trains
        own = tokenizer.loaded if isinstance(tokenizer, Pretrained) else None
        self.template = template_of(said) or (None if own is None else own.chat_template)
        if not isinstance(self.template, str):
            raise ConfigError(
                "data.format.messages: the tokenizer has no chat template; take that of an instruction-tuned model, or "
                "say format.chat_template: FILE.jinja"
            )
        self.tokens = {} if own is None else {name: str(one) for name, one in own.special_tokens_map.items()}
        try:
            self._render = import_module("transformers.utils.chat_template_utils").render_jinja_template
        except ImportError as error:
            raise ConfigError(
                f"data.format.messages: needs the package transformers ({one_line(error)}); install it: "
                "pip install 'fedray[llm]'"
            ) from None
        self.marked = re.search(r"\{%-?\s*generation\s*-?%\}", self.template) is not None

    def rendered(self, messages: list[dict[str, Any]], where: str, only: bool) -> tuple[str, list[Span]]:
        """Return the text of a chat, and where in it stands what is learnt.

        A template that marks it (``{% generation %}``) is believed; of another what an assistant's message adds
        behind the prompt for it is learnt, its end included.

        Args:
            messages: the chat.
            where: the row, for errors.
            only: True: words of assistants are learnt, and nothing else.

        Raises:
            ConfigError: the template refuses the chat, or does not write its beginning as it writes that alone.
        """
        if not only:
            text, _ = self._text(messages, where)
            return text, [(0, len(text))]
        if self.marked:
            text, spans = self._text(messages, where, return_assistant_tokens_mask=True)
            return text, [(int(start), int(stop)) for start, stop in spans]
        text, _ = self._text(messages, where)
        spans = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, _ = self._text(messages[:place], where, add_generation_prompt=True) if place else ("", [])
            whole, _ = self._text(messages[: place + 1], where)
            if not (whole.startswith(before) and text.startswith(whole)):
                instead = "say format.completion_only_loss: false" if self.trains else "leave the row out"
                raise ConfigError(
                    f"{where}: the chat template writes message {place + 1} in another way when it is the last one, so "
                    "that what the assistant says in it cannot be told; mark that in the template by {% generation %} "
                    f"... {{% endgeneration %}}, or {instead}"
                )
            spans.append((len(before), len(whole)))
        return text, spans

    def prompt(self, messages: list[dict[str, Any]], where: str) -> str:
        """Return the text before what an assistant is to say next.

        Raises:
            ConfigError: the template refuses the chat.
        """
        return self._text(messages, where, add_generation_prompt=True)[0]

    def _text(self, messages: list[dict[str, Any]], where: str, **options: Any) -> tuple[str, list[Any]]:
        try:
            texts, spans = self._render([messages], chat_template=self.template, **options, **self.tokens)
        except Exception as error:  # a template raises whatever it likes
            raise ConfigError(f"{where}: the chat template refuses these messages: {one_line(error)}") from None
        return texts[0], spans[0] if spans else []


def template_of(said: str | None) -> str | None:
    """Return the chat template that a config names, as text: Jinja, or a file of it.

    Raises:
        ConfigError: there is no such file.
    """
    if said is None or "{" in said:
        return said
    file = Path(said)
    if not file.is_file():
        raise ConfigError(f"data.format.chat_template: file {file} does not exist (current folder: {Path.cwd()})")
    return file.read_text()
