"""Encoded pictures: the pixels that Pillow was given, and one line for what is no picture or no like the others."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedray.core.errors import ConfigError
from fedray.data.files.pictures import PictureOptions, decoded

DRAW = np.random.default_rng(0)
GREY, COLOURED = DRAW.integers(0, 255, (5, 4), np.uint8), DRAW.integers(0, 255, (5, 4, 3), np.uint8)


def encoded(pixels: Any, mode: str | None = None, kind: str = "png", **options: Any) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def test_pixels_are_those_that_were_encoded() -> None:
    rows = decoded("a", [encoded(GREY), encoded(GREY.T.copy().T + 1)], PictureOptions())
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, np.stack([GREY, GREY + 1])[:, None])
    assert np.array_equal(decoded("a", [encoded(COLOURED)], PictureOptions())[0], np.moveaxis(COLOURED, -1, 0))
    lossy = decoded("a", [encoded(np.full((8, 8, 3), 77, np.uint8), kind="jpeg")], PictureOptions())
    assert lossy.shape == (1, 3, 8, 8)
    assert np.abs(lossy.astype(int) - 77).max() <= 2
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    assert decoded("a", [encoded(COLOURED, exif=turned)], PictureOptions()).shape == (1, 3, 4, 5)


def test_pictures_are_brought_to_one_form_where_it_is_said() -> None:
    mixed = [encoded(GREY), encoded(COLOURED, "RGBA"), encoded(COLOURED, "P"), encoded(DRAW.random((9, 7)) > 0.5)]
    rows = decoded("a", mixed, PictureOptions.of("image", {"mode": "RGB", "size": [6, 3]}))
    assert rows.shape == (4, 3, 6, 3)
    assert np.array_equal(rows[0, 0], rows[0, 2])


def test_masks_are_classes_also_those_of_a_palette() -> None:
    classes = DRAW.integers(0, 3, (5, 4), np.uint8)
    palette = Image.fromarray(classes).convert("P")
    palette.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    file = io.BytesIO()
    palette.save(file, "png")
    masks = decoded("a", [encoded(classes), file.getvalue()], PictureOptions(), labels=True)
    assert masks.dtype == np.int64
    assert np.array_equal(masks, np.stack([classes, classes]))
    assert decoded("a", [encoded(classes)], PictureOptions(size=(10, 8)), labels=True).max() <= 2
    with pytest.raises(ConfigError, match=r"row 1: a mask is a picture of mode L, or P with a palette.*has mode RGB"):
        decoded("a", [encoded(COLOURED)], PictureOptions(), labels=True)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (
            [encoded(GREY), encoded(GREY[:4])],
            "row 2: this picture is L of 4 x 4, that of row 1 is L of 5 x 4; make them",
        ),
        ([encoded(GREY), encoded(COLOURED)], "row 2: this picture is RGB of 5 x 4, that of row 1 is L of 5 x 4"),
        ([encoded(COLOURED, "RGBA")], "row 1: a picture of mode RGBA; L .grey. and RGB are taken as they are"),
        ([encoded(GREY.astype(np.uint16))], "row 1: a picture of mode I;16 has more than 8 bits"),
        ([b"\x89PNG no"], "row 1: these bytes are no picture that Pillow reads"),
        ([encoded(COLOURED)[:60]], "row 1: "),
    ],
)
def test_what_is_no_picture_of_the_form_is_said(contents: list[bytes], said: str) -> None:
    with pytest.raises(ConfigError, match=f"a.parquet, column 'x', {said}"):
        decoded("a.parquet, column 'x'", contents, PictureOptions())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mod": "L"}, r"data.pictures.x.mod: unknown key \(did you mean 'mode'\?\); known: mode, size"),
        ({"mode": "RGBA"}, r"data.pictures.x.mode=RGBA: allowed: L \(grey\) and RGB"),
        ({"size": 64}, r"data.pictures.x.size=64: height and width are needed, as in \[64, 64\]"),
        ("RGB", "data.pictures.x: a section such as"),
    ],
)
def test_options_that_are_none_are_said(options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PictureOptions.of("x", options)


def test_without_pillow_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.ImageOps", None)
    with pytest.raises(ConfigError, match="encoded pictures need the package pillow; install it: pip install pillow"):
        decoded("a", [encoded(GREY)], PictureOptions())
