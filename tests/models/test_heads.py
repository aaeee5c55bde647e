"""The ends of models of transformers: each trains, is asked, and is exported; its loss is transformers' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fedray
from fedray.core.errors import ConfigError
from fedray.data.spec import Column, DataSpec
from fedray.models import HuggingFace, resolve_model
from fedray.models.heads import HEADS
from fedray.predict.exported import export
from fedray.rundir.folder import RunFolder

N = 16
DRAW = np.random.default_rng(5)
WORDS = DRAW.integers(1, 24, (N, 6))
PARTS = (np.arange(6) > 2).astype(np.int64)[None].repeat(N, axis=0)
ANSWERS = DRAW.integers(1, 24, (N, 5)) * (np.arange(5) < DRAW.integers(1, 6, (N, 1)))  # 0 behind each


def classes(count: int) -> Any:
    return np.arange(N) % count


def as_they_are(y: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"labels": y}


class Case(NamedTuple):
    """Data for a head, the layers that get adapters, and the targets as a model of transformers takes them."""

    kind: str
    x: Any
    y: Any
    task: Any
    targets: list[str]
    asked: Callable[[torch.Tensor], dict[str, torch.Tensor]] = as_they_are


CASES = {
    "causal_lm": Case("gpt2", {"input_ids": WORDS}, WORDS, "causal_lm", ["c_attn"]),
    "seq2seq_lm": Case(
        "t5",
        {"input_ids": WORDS, "attention_mask": (WORDS > 3).astype(np.int64), "labels": ANSWERS},
        ANSWERS,
        {"name": "seq2seq_lm", "ignore_index": 0},
        ["q", "v"],
        lambda y: {"labels": y.masked_fill(y == 0, -100)},
    ),
    "speech_seq2seq": Case(
        "whisper",
        {"input_features": DRAW.random((N, 4, 16), dtype=np.float32), "labels": ANSWERS},
        ANSWERS,
        {"name": "seq2seq_lm", "ignore_index": 0},
        ["q_proj", "v_proj"],
        lambda y: {"labels": y.masked_fill(y == 0, -100)},
    ),
    "masked_lm": Case(
        "bert_masked",
        {"input_ids": WORDS},
        np.where(np.arange(N * 6).reshape(N, 6) % 3 == 0, WORDS, 0),
        {"name": "token_classification", "ignore_index": 0},
        ["query", "value", "dense"],
        lambda y: {"labels": y.masked_fill(y == 0, -100)},
    ),
    "sequence_classification": Case("bert", WORDS, classes(3), "classification", ["query"]),
    "token_classification": Case("bert", WORDS, WORDS % 3, "token_classification", ["query"]),
    "multiple_choice": Case("bert", DRAW.integers(1, 24, (N, 3, 6)), classes(3), "classification", ["query"]),
    "question_answering": Case(
        "bert",
        WORDS,
        np.stack([classes(3), classes(3) + 2], axis=1),
        "span",
        ["query"],
        lambda y: {"start_positions": y[:, 0], "end_positions": y[:, 1]},
    ),
    "next_sentence_prediction": Case(
        "bert", {"input_ids": WORDS, "token_type_ids": PARTS}, classes(2), "classification", ["query"]
    ),
    "image_classification": Case(
        "vit", DRAW.random((N, 1, 8, 8), dtype=np.float32), classes(3), "classification", ["q_proj"]
    ),
    "semantic_segmentation": Case(
        "segformer",
        DRAW.random((N, 1, 16, 16), dtype=np.float32),
        DRAW.integers(0, 3, (N, 16, 16)),
        "segmentation",
        ["q_proj"],
    ),
    "video_classification": Case(
        "videomae", DRAW.random((N, 2, 1, 8, 8), dtype=np.float32), classes(3), "classification", ["query"]
    ),
    "audio_classification": Case(
        "wav2vec2", DRAW.random((N, 64), dtype=np.float32), classes(3), "classification", ["q_proj"]
    ),
    "audio_frame_classification": Case(
        "wav2vec2",
        DRAW.random((N, 64), dtype=np.float32),
        DRAW.integers(0, 3, (N, 16)),
        "token_classification",
        ["q_proj"],
        lambda y: {"labels": F.one_hot(y, 3)},
    ),
}


def test_each_head_has_a_case() -> None:
    assert CASES.keys() == HEADS.keys()


def run(folder: Path, model: dict[str, Any], case: Case, stack: Any) -> fedray.Result:
    data = fedray.FederatedData.from_arrays(case.x, case.y, clients=np.arange(N) % 4, test=(case.x, case.y))
    args = fedray.TrainArgs(rounds=2, optimizer={"name": "sgd", "lr": 0.2}, batch_size=2, stack=stack)
    federated = fedray.FederatedModel(model, task=case.task)
    return fedray.train(federated, data, args, cluster="inline", run_dir=folder, progress=False)


def tensors(x: Any) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    if isinstance(x, dict):
        return (), {name: torch.from_numpy(one) for name, one in x.items()}
    return (torch.from_numpy(x),), {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("head", CASES)
def test_a_head_trains_and_is_asked_and_is_exported(tmp_path: Path, head: str, adapted: bool) -> None:
    import peft
    import transformers
    from safetensors.torch import load_file

    from tests.models.hosted import saved

    case = CASES[head]
    base = saved(tmp_path / "base", case.kind)
    lora = {"r": 2, "targets": case.targets} if adapted else None
    model = {"name": "huggingface", "path": str(base), "head": head, "lora": lora}
    alone = run(tmp_path / "off", model, case, "off")
    mine = load_file(tmp_path / "off" / "model.safetensors")
    for way in (4, "lanes:4"):
        run(tmp_path / str(way), model, case, way)
        theirs = load_file(tmp_path / str(way) / "model.safetensors")
        assert all(torch.allclose(mine[name], theirs[name], atol=1e-5) for name in mine)
    losses = [record.test["loss"] for record in alone.history]
    assert losses[0] != losses[-1]
    predicted = fedray.load(tmp_path / "off").predict(case.x)
    assert len(predicted.predicted) == N
    maker = getattr(transformers, HEADS[head].maker)
    options = HEADS[head].options(DataSpec((), 3))
    placed, named = tensors(case.x)
    alone.model.eval()
    with torch.no_grad():
        wanted = alone.model(*placed, **named)
        export(RunFolder(tmp_path / "off"), tmp_path / "whole", "huggingface")
        whole = maker.from_pretrained(tmp_path / "whole").eval()
        asked = case.asked(torch.from_numpy(case.y))
        found = whole(*placed, **{**named, **asked})
        given = dict(enumerate(placed)) or named
        torch.testing.assert_close(HEADS[head].gives(found, given), wanted, rtol=0, atol=1e-5)
        # What transformers itself says of the same batch.
        assert float(found.loss) == pytest.approx(losses[-1], abs=2e-6)
        if adapted:
            export(RunFolder(tmp_path / "off"), tmp_path / "adapter", "peft")
            plain = maker.from_pretrained(base, **options)
            loaded = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
            torch.testing.assert_close(
                HEADS[head].gives(loaded(*placed, **{**named, **asked}), given), wanted, rtol=0, atol=1e-6
            )
        else:
            with pytest.raises(ConfigError, match="has no adapters"):
                export(RunFolder(tmp_path / "off"), tmp_path / "adapter", "peft")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize("head", CASES)
def test_a_head_takes_its_inputs_in_the_type_of_the_base(tmp_path: Path, head: str) -> None:
    from tests.models.hosted import saved

    case = CASES[head]
    base = saved(tmp_path / "base", case.kind, torch.bfloat16)
    lora = {"r": 2, "targets": case.targets}
    model = {"name": "huggingface", "path": str(base), "head": head, "lora": lora, "gradient_checkpointing": True}
    wide, narrow = (
        run(tmp_path / dtype, {**model, "dtype": dtype}, case, "auto").history for dtype in ("float32", "bfloat16")
    )
    for one, other in zip(wide, narrow, strict=True):
        assert other.test["loss"] == pytest.approx(one.test["loss"], rel=2e-2)


@pytest.mark.slow
def test_a_head_is_found_by_the_architecture(tmp_path: Path) -> None:
    import transformers

    for architecture, spec, head in (
        ("GPT2LMHeadModel", DataSpec((6,), 24, vocabulary=24), "causal_lm"),
        ("T5ForConditionalGeneration", DataSpec((6,), 24, vocabulary=24), "seq2seq_lm"),
        ("WhisperForConditionalGeneration", DataSpec((6,), 24, vocabulary=24), "speech_seq2seq"),
        ("BertForMaskedLM", DataSpec((6,), 24, vocabulary=24), "masked_lm"),
        ("BertForMaskedLM", DataSpec((6,), 2, classes=("no", "yes"), vocabulary=24), "sequence_classification"),
        ("BertModel", DataSpec((6,), 1, "regression", vocabulary=24), "sequence_classification"),
        ("DistilBertForQuestionAnswering", DataSpec((6,), 6, vocabulary=24), "question_answering"),
        ("RobertaForMultipleChoice", DataSpec((2, 6), 2, vocabulary=24), "multiple_choice"),
        ("SegformerForSemanticSegmentation", DataSpec((1, 8, 8), 2), "semantic_segmentation"),
        ("HubertForSequenceClassification", DataSpec((64,), 2), "audio_classification"),
    ):
        (tmp_path / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
        assert HuggingFace(str(tmp_path))._head(spec, transformers) == head, architecture
    (tmp_path / "config.json").write_text('{"architectures": ["DetrForObjectDetection"]}')
    with pytest.raises(ConfigError, match=r"names DetrForObjectDetection; say what the model is to end in: causal_lm,"):
        HuggingFace(str(tmp_path))._head(DataSpec((3, 8, 8), 2), transformers)


def test_an_unknown_head_is_one_line_with_those_that_are_there() -> None:
    for said, more in (("object_detection", ""), ("masked_ml", " (did you mean 'masked_lm'?)"), ("CausalLM", "")):
        with pytest.raises(ConfigError) as found:
            resolve_model({"name": "huggingface", "path": "here", "head": said})
        words = str(found.value)
        assert f"head={said}: it is no end of a model whose answers a task takes{more}" in words
        assert all(head in words for head in (*HEADS, "auto"))
        assert "\n" not in words


@pytest.mark.parametrize(
    ("head", "spec", "message"),
    [
        ("multiple_choice", DataSpec((6,), 2, vocabulary=24), r"tokens of shape \(choices, length\)"),
        ("video_classification", DataSpec((1, 8, 8), 2), r"films of shape \(frames, channels, height, width\)"),
        ("audio_classification", DataSpec((6,), 2, vocabulary=24), r"sounds of shape \(samples,\)"),
        ("semantic_segmentation", DataSpec((8,), 2), r"images of shape \(channels, height, width\)"),
        ("question_answering", DataSpec((8,), 2), r"token sequences of shape \(length,\)"),
    ],
)
def test_inputs_that_a_head_does_not_take(head: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HEADS[head].check(spec)
    HEADS[head].check(DataSpec((), 2, columns=(Column("anything", (3,)),)))


@pytest.mark.parametrize("head", ["seq2seq_lm", "speech_seq2seq"])
def test_a_decoder_has_a_column_of_what_it_is_to_say(head: str) -> None:
    for spec in (DataSpec((6,), 24, vocabulary=24), DataSpec((), 24, columns=(Column("input_ids", (6,), 24),))):
        with pytest.raises(
            ConfigError, match=r"columns .* and labels: data: \{name: text\} has them with task: seq2seq_lm"
        ):
            HEADS[head].check(spec)
    HEADS[head].check(DataSpec((), 24, columns=(Column("labels", (6,), 24),)))


def reversals(folder: Path) -> Path:
    """Write prompts, of different lengths, and the words of each backwards."""
    draw = np.random.default_rng(3)
    asked = ["".join(draw.choice(list("abcd"), draw.integers(1, 9))) for _ in range(24)]
    rows = [{"who": f"c{n % 4}", "prompt": one, "completion": one[::-1][:5]} for n, one in enumerate(asked)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize(("kind", "targets"), [("t5", None), ("t5", ["q", "v"]), ("bart", ["q_proj", "v_proj"])])
def test_an_encoder_and_a_decoder_learn_answers_of_texts(tmp_path: Path, kind: str, targets: Any) -> None:
    import transformers
    from safetensors.torch import load_file

    from tests.models.hosted import saved

    base = saved(tmp_path / "base", kind, vocabulary=257, positions=64)
    file = reversals(tmp_path)
    data = fedray.FederatedData.from_text(
        file, tokenizer="bytes", test=file, clients={"column": "who"}, pairs=True, max_length=12
    )
    lora = None if targets is None else {"r": 2, "targets": targets}
    model = fedray.FederatedModel({"name": "huggingface", "path": str(base), "lora": lora}, task="seq2seq_lm")
    said: dict[str, Any] = {"optimizer": {"name": "adamw", "lr": 0.01}, "batch_size": 3}
    algorithm = fedray.FedAvg(weight="tokens")
    runs = {}
    for way in ("off", 4, "lanes:4"):
        runs[way] = fedray.train(
            model,
            data,
            fedray.TrainArgs(rounds=2, stack=way, **said),
            algorithm=algorithm,
            cluster="inline",
            run_dir=tmp_path / str(way),
            progress=False,
        )
    mine = load_file(tmp_path / "off" / "model.safetensors")
    for way in ("4", "lanes:4"):
        theirs = load_file(tmp_path / way / "model.safetensors")
        assert all(torch.allclose(mine[name], theirs[name], atol=2e-5) for name in mine)
    test = runs["off"].history[-1].test
    assert test["loss"] < runs["off"].history[0].test["loss"]
    # Transformers itself, a row at a time, without any padding, in float64.
    export(RunFolder(tmp_path / "off"), tmp_path / "whole", "huggingface")
    whole = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole").double().eval()
    whole.generation_config.forced_eos_token_id = None  # as BART's last token is, whatever is likeliest
    said_here = fedray.load(tmp_path / "off").generate(file, 6).predicted
    total, count = 0.0, 0
    for here, row in zip(said_here, map(json.loads, file.read_text().splitlines()), strict=True):
        asked, wanted = (torch.tensor([[*row[name].encode(), 256]]) for name in ("prompt", "completion"))
        with torch.no_grad():
            total += float(whole(input_ids=asked, labels=wanted).loss) * wanted.shape[1]
            own = whole.generate(input_ids=asked, max_new_tokens=6, eos_token_id=256, pad_token_id=0)[0, 1:].tolist()
        assert here == bytes(one for one in own if one and one < 256).decode(errors="replace")
        count += wanted.shape[1]
    assert test["loss"] == pytest.approx(total / count, abs=1e-6)
    assert test["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-6)
