"""A base in another form than its files': the numbers of a conversion, once on disk, mapped by whoever needs it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.models import HuggingFace, Lora, converted, initial_model, pretrained
from tests.models.test_huggingface import CLASSES, TOKENS

FORMS = [
    {"dtype": "bfloat16"},
    {"dtype": "float16"},
    {"dtype": "bfloat16", "quantization": "nf4"},
    {"quantization": "int8"},
]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept" / "bases"


def model(folder: Path, **form: Any) -> HuggingFace:
    return HuggingFace(str(folder), lora=Lora(r=2, targets=["q_proj"]), **form)


def mapped(files: Path) -> list[range]:
    """The addresses of this process at which files of a folder lie."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        places, *_, path = line.split(maxsplit=5)
        if path.startswith(str(files)):
            first, last = (int(place, 16) for place in places.split("-"))
            found.append(range(first, last))
    return found


def large(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in module.named_parameters() if not p.requires_grad and p.dim() > 1}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_has_the_bits_of_a_conversion_and_lies_in_files(tmp_path: Path, form: dict[str, Any], kept: Path) -> None:
    from tests.models.hosted import saved

    folder = saved(tmp_path / "base", "llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedray.models.huggingface.of_converted", pretrained.of_weights)
        itself = initial_model(model(folder, **form), TOKENS, 3)
    assert not kept.exists()
    first, second = (initial_model(model(folder, **form), TOKENS, 3) for _ in range(2))
    assert len(list(kept.iterdir())) == 1
    ids = torch.arange(12).view(2, 6)
    for module in (first, second):
        assert module.state_dict().keys() == itself.state_dict().keys()
        assert all(torch.equal(value, itself.state_dict()[name]) for name, value in module.state_dict().items())
        assert torch.equal(module(ids), itself(ids))
        places = mapped(kept)
        assert all(any(p.data_ptr() in place for place in places) for p in large(module).values())


def test_a_base_in_its_own_type_is_kept_nowhere_else(tmp_path: Path, kept: Path) -> None:
    from tests.models.hosted import saved

    folder = saved(tmp_path / "base", "llama", torch.bfloat16)
    module = initial_model(model(folder, dtype="bfloat16"), TOKENS, 3)
    assert not kept.exists()
    places = mapped(folder)
    assert all(any(p.data_ptr() in place for place in places) for p in large(module).values())


def test_other_files_are_another_base(tmp_path: Path, kept: Path) -> None:
    from tests.models.hosted import saved

    folder = saved(tmp_path / "base", "llama")
    before = initial_model(model(folder, dtype="bfloat16"), TOKENS, 3)
    saved(tmp_path / "base", "llama", scale=2.0)
    after = initial_model(model(folder, dtype="bfloat16"), TOKENS, 3)
    assert len(list(kept.iterdir())) == 2
    assert not all(torch.equal(a, b) for a, b in zip(large(before).values(), large(after).values(), strict=True))


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
def test_a_new_head_does_not_show_who_made_the_files(tmp_path: Path, form: dict[str, Any]) -> None:
    from tests.models.hosted import saved

    bert = HuggingFace(
        str(saved(tmp_path, "bert")), lora=Lora(r=2, targets=["query"]), head="sequence_classification", **form
    )
    made, found, other = (initial_model(bert, CLASSES, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(made[name], found[name]) for name in made)
    heads = [name for name in made if "classifier" in name and made[name].dim() > 1]
    assert heads
    assert not any(torch.equal(made[name], other[name]) for name in heads)


def test_two_that_make_it_at_once_have_one(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.models.hosted import saved

    folder, write = saved(tmp_path / "base", "llama"), converted._write

    def late(place: Path, *args: Any) -> None:
        write(place, *args)
        write(place, *args)

    monkeypatch.setattr(converted, "_write", late)
    initial_model(model(folder, dtype="bfloat16"), TOKENS, 3)
    assert len(list(kept.iterdir())) == 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may be larger than 10,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("disk", ["no folder", "full"])
def test_a_disk_that_does_not_take_it_is_said_in_one_line(
    tmp_path: Path, kept: Path, disk: str, request: pytest.FixtureRequest
) -> None:
    from tests.models.hosted import saved

    folder = saved(tmp_path / "base", "llama")
    kept.parent.mkdir()
    if disk == "full":
        kept.mkdir()
        request.getfixturevalue("small_files")
    else:
        kept.touch()
    with pytest.raises(ConfigError, match=r"^model: .* as bfloat16.*held once on a node.*FEDRAY_CACHE$"):
        initial_model(model(folder, dtype="bfloat16"), TOKENS, 3)
    assert kept.is_file() or not list(kept.iterdir())


def test_a_torn_file_of_the_base_is_said_in_one_line(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    folder = saved(tmp_path / "base", "llama")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"^model\.path: .*base cannot be read as a causal_lm model: "):
        initial_model(model(folder, dtype="bfloat16"), TOKENS, 3)
