"""Encoded pictures, as files of data hold them: PNG, JPEG and what else Pillow reads, decoded to bytes of pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, listed, quoted, short

BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
"""The first bytes of PNG, JPEG, GIF, BMP, TIFF (two) and WebP."""
KEYS = ("mode", "size")
PIXELS = {"L": 1, "RGB": 3}
"""The modes that are taken, and the channels of each."""
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class PictureOptions:
    """The form that encoded pictures are brought to.

    >>> PictureOptions.of("scan", {"mode": "L", "size": [64, 64]})
    PictureOptions(mode='L', size=(64, 64))

    Args:
        mode: ``L`` (grey) or ``RGB``, to which pictures are converted; None: all must have one of the two, and the
            same.
        size: (height, width), to which pictures of another size are scaled, bilinearly; None: all must have one size.
    """

    mode: str | None = None
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, column: str, said: Any) -> PictureOptions:
        """Return them from what a config says of a column.

        Raises:
            ConfigError: an unknown key, a mode that is not taken, or a size that is none.
        """
        where = f"data.pictures.{column}"
        if not isinstance(said, Mapping):
            raise ConfigError(f"{where}: a section such as {{mode: RGB, size: [64, 64]}} is needed, got {quoted(said)}")
        for key in said:
            if key not in KEYS:
                raise ConfigError(f"{where}.{short(key)}: unknown key{nearest(str(key), KEYS)}; known: {listed(KEYS)}")
        mode, size = said.get("mode"), said.get("size")
        if mode is not None and mode not in PIXELS:
            raise ConfigError(f"{where}.mode={mode}: allowed: L (grey) and RGB")
        if size is not None:
            if not isinstance(size, Sequence) or len(size) != 2 or any(type(one) is not int or one < 1 for one in size):
                raise ConfigError(f"{where}.size={size}: height and width are needed, as in [64, 64]")
            size = (size[0], size[1])
        return cls(mode, size)


def looks_encoded(content: bytes) -> bool:
    """Say whether bytes begin as a picture file does.

    >>> looks_encoded(b"\\x89PNG\\r\\n"), looks_encoded(bytes(784))
    (True, False)
    """
    return content.startswith(BEGINNINGS)


def decoded(where: str, contents: Sequence[bytes], options: PictureOptions, labels: bool = False) -> NDArray[Any]:
    """Return encoded pictures as pixels ``[N, C, H, W]``, uint8: one channel of grey ones, three of coloured ones.

    Pictures are turned as their EXIF orientation says.  The pixels of a JPEG depend, by a level or so, on the library
    that Pillow decodes it with.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(file, "png")
    >>> decoded("a.parquet", [file.getvalue()], PictureOptions()).tolist()
    [[[[0, 255]]]]

    Args:
        where: the file and the column, for errors.
        contents: the pictures.
        options: the form that they are brought to.
        labels: pictures are masks, whose values, or places in the palette, are classes: int64 ``[N, H, W]``.

    Raises:
        ConfigError: bytes that are no picture; another mode or size than those of the first, or a mode that has no
            place in bytes; Pillow is missing.
    """
    if not contents:
        return np.zeros((0, PIXELS[options.mode or "L"], *(options.size or (1, 1))), dtype=np.uint8)
    pillow, rows, form = _pillow(where), [], ("", (0, 0))
    for number, content in enumerate(contents, start=1):
        row = f"{where}, row {number}"
        opened = _opened(row, content, pillow)
        picture = (_mask if labels else _brought)(row, opened, options, pillow)
        form = (picture.mode, picture.size) if number == 1 else form
        if (picture.mode, picture.size) != form:
            raise ConfigError(
                f"{row}: this picture is {_words(picture.mode, picture.size)}, that of row 1 is {_words(*form)}; make "
                "them one: `pictures: {COLUMN: {mode: RGB, size: [64, 64]}}`"
            )
        rows.append(np.asarray(picture))
    pixels = np.stack(rows)
    if labels:
        return pixels.astype(np.int64)
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(np.moveaxis(pixels, -1, 1))


def _pillow(where: str) -> Any:
    try:
        for name in ("ImageOps", "Image"):
            found = import_module(f"PIL.{name}")
    except ImportError:
        raise ConfigError(
            f"{where}: encoded pictures need the package pillow; install it: pip install pillow"
        ) from None
    return found


def _opened(row: str, content: bytes, pillow: Any) -> Any:
    try:
        with pillow.open(io.BytesIO(content)) as file:
            file.load()
            turned = import_module("PIL.ImageOps").exif_transpose(file)
            return file.copy() if turned is None else turned
    except Exception as error:  # a damaged file can raise nearly anything, also what a size too large is refused by
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        said = "these bytes are no picture that Pillow reads" if "cannot identify" in said else said
        raise ConfigError(f"{row}: {said}") from None


def _brought(row: str, picture: Any, options: PictureOptions, pillow: Any) -> Any:
    if picture.mode not in _EIGHT_BITS:
        raise ConfigError(
            f"{row}: a picture of mode {picture.mode} has more than 8 bits for a value; store it as numbers: a list of "
            "floats and its shape in `shapes`"
        )
    if options.mode is not None:
        picture = picture if picture.mode == options.mode else picture.convert(options.mode)
    elif picture.mode not in PIXELS:
        raise ConfigError(
            f"{row}: a picture of mode {picture.mode}; L (grey) and RGB are taken as they are, others are converted: "
            "`pictures: {COLUMN: {mode: RGB}}`"
        )
    if options.size is not None and (picture.height, picture.width) != options.size:
        picture = picture.resize(options.size[::-1], pillow.Resampling.BILINEAR)
    return picture


def _mask(row: str, picture: Any, options: PictureOptions, pillow: Any) -> Any:
    if options.mode is not None:
        raise ConfigError(f"{row}: a mask has the classes as its values, and no mode; leave `mode` out")
    if picture.mode not in ("1", "L", "P"):
        raise ConfigError(
            f"{row}: a mask is a picture of mode L, or P with a palette, whose values are the classes; this one has "
            f"mode {picture.mode}"
        )
    if picture.mode == "P":
        picture = pillow.fromarray(np.asarray(picture))  # the places in the palette, in the place of its colours
    if options.size is not None and (picture.height, picture.width) != options.size:
        picture = picture.resize(options.size[::-1], pillow.Resampling.NEAREST)
    return picture


def _words(mode: str, size: tuple[int, int]) -> str:
    return f"{mode} of {size[1]} x {size[0]}"
