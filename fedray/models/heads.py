"""The ends of models of transformers: the class that makes each, what goes in, and what its answers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.config.registry import nearest
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models.fit import misfit

AUTO = "auto"

Gives = Callable[[Any, Mapping[Any, Tensor]], Tensor]
"""A function from the answer of a model, and the columns that it was given, by name or place, to one tensor."""


def logits(found: Any, given: Mapping[Any, Tensor]) -> Tensor:
    """Return the logits of an answer."""
    return found.logits  # type: ignore[no-any-return]


def ends(found: Any, given: Mapping[Any, Tensor]) -> Tensor:
    """Return the logits of where a span begins and ends, ``[B, T, 2]``.

    >>> from types import SimpleNamespace
    >>> ends(SimpleNamespace(start_logits=torch.zeros(3, 7), end_logits=torch.ones(3, 7)), {}).shape
    torch.Size([3, 7, 2])
    """
    return torch.stack([found.start_logits, found.end_logits], dim=-1)


def pixels(found: Any, given: Mapping[Any, Tensor]) -> Tensor:
    """Return logits for each pixel of the images, ``[B, K, H, W]``: models give fewer, and transformers widens them so.

    >>> from types import SimpleNamespace
    >>> pixels(SimpleNamespace(logits=torch.zeros(2, 5, 4, 4)), {"pixel_values": torch.zeros(2, 3, 16, 16)}).shape
    torch.Size([2, 5, 16, 16])
    """
    size = next(iter(given.values())).shape[-2:]
    return F.interpolate(found.logits, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Taken:
    """Inputs of one tensor, as a head takes them.

    Args:
        words: their shape, in words.
        tokens: they are tokens, else numbers.
        ranks: the axes that an example may have.
    """

    words: str
    tokens: bool
    ranks: tuple[int, ...]


_TOKENS = Taken("token sequences of shape (length,)", True, (1,))
_CHOICES = Taken("tokens of shape (choices, length)", True, (2,))
_IMAGES = Taken("images of shape (channels, height, width)", False, (3,))
_VIDEOS = Taken("films of shape (frames, channels, height, width)", False, (4,))
_SOUNDS = Taken("sounds of shape (samples,), or (frames, bands)", False, (1, 2))


_TEXTS = Taken("columns input_ids, attention_mask and labels", True, ())
_SPEECH = Taken("columns input_features and labels", False, ())

DECODED = frozenset({"labels", "decoder_input_ids"})
"""The columns that a decoder may be given: what it is to say, or that one place later."""


@dataclass(frozen=True)
class Head:
    """The end of a model.

    Args:
        maker: the class of transformers that makes such a model.
        taken: the inputs, where they are one tensor.
        says: ``tokens``, for which a folder has all weights; ``classes``, as many as the data has, which are drawn
            where the folder lacks them; ``own``: as many as such a head has, which are drawn, too.
        peft: the name of such models in peft; None: it has none.
        gives: the tensor of an answer.
        padding: it finds the end of a text by the token of padding.
        decodes: a decoder says the tokens of the column ``labels``, one after the other, of what an encoder reads.
    """

    maker: str
    taken: Taken
    says: Literal["tokens", "classes", "own"]
    peft: str | None = None
    gives: Gives = logits
    padding: bool = False
    decodes: bool = False

    def options(self, spec: DataSpec) -> dict[str, Any]:
        """Return what a model's config says by the data."""
        return {"num_labels": spec.outputs} if self.says == "classes" else {}

    def check(self, spec: DataSpec) -> None:
        """Raise ConfigError where one tensor of inputs is none that such a model takes, or a decoder has no column."""
        names = {one.name for one in spec.columns}
        if self.decodes and not names & DECODED:
            raise misfit(
                spec, "huggingface", f"{self.taken.words}: data: {{name: text}} has them with task: seq2seq_lm"
            )
        if spec.columns:
            return
        if bool(spec.vocabulary) != self.taken.tokens or len(spec.shape) not in self.taken.ranks:
            raise misfit(spec, "huggingface", self.taken.words)

    def makes(self, transformers: Any, architecture: str) -> bool:
        """Tell if its class makes models of an architecture, as ``config.json`` names it."""
        found = getattr(transformers, self.maker)._model_mapping._model_mapping.values()
        return any(architecture in ((one,) if isinstance(one, str) else one) for one in found)


HEADS: dict[str, Head] = {
    "causal_lm": Head("AutoModelForCausalLM", _TOKENS, "tokens", "CAUSAL_LM"),
    "seq2seq_lm": Head("AutoModelForSeq2SeqLM", _TEXTS, "tokens", "SEQ_2_SEQ_LM", decodes=True),
    "speech_seq2seq": Head("AutoModelForSpeechSeq2Seq", _SPEECH, "tokens", decodes=True),
    "masked_lm": Head("AutoModelForMaskedLM", _TOKENS, "tokens"),
    "sequence_classification": Head("AutoModelForSequenceClassification", _TOKENS, "classes", "SEQ_CLS", padding=True),
    "token_classification": Head("AutoModelForTokenClassification", _TOKENS, "classes", "TOKEN_CLS"),
    "multiple_choice": Head("AutoModelForMultipleChoice", _CHOICES, "own"),
    "question_answering": Head("AutoModelForQuestionAnswering", _TOKENS, "own", "QUESTION_ANS", ends),
    "next_sentence_prediction": Head("AutoModelForNextSentencePrediction", _TOKENS, "own"),
    "image_classification": Head("AutoModelForImageClassification", _IMAGES, "classes"),
    "semantic_segmentation": Head("AutoModelForSemanticSegmentation", _IMAGES, "classes", None, pixels),
    "video_classification": Head("AutoModelForVideoClassification", _VIDEOS, "classes"),
    "audio_classification": Head("AutoModelForAudioClassification", _SOUNDS, "classes"),
    "audio_frame_classification": Head("AutoModelForAudioFrameClassification", _SOUNDS, "classes"),
}
"""The heads, by the name of their class in transformers; an architecture that several make has the first."""


def check_head(name: str) -> None:
    """Raise ConfigError, with the heads that there are, for one that there is not.

    >>> check_head("object_detection")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: head=object_detection: it is no end of a model whose answers a task takes...
    """
    if name != AUTO and name not in HEADS:
        raise ConfigError(
            f"head={name}: it is no end of a model whose answers a task takes{nearest(name, HEADS)}; those are "
            f"{', '.join(HEADS)}, or auto"
        )
