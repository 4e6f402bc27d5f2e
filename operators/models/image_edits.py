"""Edits of pictures by HTTP: what a row asks for, and the form in which a server takes it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from overpaint.operators.framing.frame import Shapes, Size
from overpaint.pipeline.images import Picture, Pixels, encode, encode_mask

Scalar = str | int | float | bool
"""Value of a form's field."""

OPENAI_SHAPES = Shapes(2, (Size(2, 3), Size(2, 2), Size(3, 2)))
"""Sizes that every GPT image model takes, in halves of the side: 1:1, 2:3 and 3:2."""
_WIDTHS = (40, 44, 48, 52, 56, 60, 64, 68, 73, 79, 85, 93, 102)
ENGINE_SHAPES = Shapes(64, tuple(Size(width, round(64 * 64 / width)) for width in _WIDTHS))
"""Shapes of about equal area from 2:5 to 5:2, in 64ths of the side: engines take any size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEdit:
    """One edit as a server is asked for it.

    Attributes:
        model: the model, as the server names it.
        prompt: what to change, in words.
        pictures: the picture to edit, then references in order, each a PNG.
        mask: uint8 HW of the size of the first picture, 255 may change; None for everything.
        size: size of the answer.
        seed: seed of the row.
        num_inference_steps: denoising steps; 0 leaves them to the server.
        guidance_scale: scale of guidance; None leaves it to the server.
        more: further fields of the form, by name.
    """

    model: str
    prompt: str
    pictures: tuple[bytes, ...]
    mask: Pixels | None
    size: Size
    seed: int
    num_inference_steps: int = 0
    guidance_scale: float | None = None
    more: Mapping[str, Scalar]

    @property
    def size_text(self) -> str:
        """The size as servers read it, such as `1024x1536`: the width comes first."""
        return f"{self.size.width_px}x{self.size.height_px}"

    def settings(self) -> dict[str, Scalar]:
        """Returns the settings of the denoising that are given, by diffusers' names."""
        given: dict[str, Scalar] = {}
        if self.num_inference_steps:
            given["num_inference_steps"] = self.num_inference_steps
        if self.guidance_scale is not None:
            given["guidance_scale"] = self.guidance_scale
        return given


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: a field, or a PNG file where it has a file name."""

    name: str
    content: bytes
    file_name: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it is sent: `multipart/form-data` (RFC 7578), equal for equal parts."""

    parts: tuple[Part, ...]

    @property
    def boundary(self) -> str:
        """The line between parts: a digest of them, so that it occurs in none."""
        hasher = hashlib.sha256()
        for part in self.parts:
            for text in (part.name.encode(), (part.file_name or "").encode(), part.content):
                hasher.update(len(text).to_bytes(8, "big") + text)
        return hasher.hexdigest()

    @property
    def content_type(self) -> str:
        """The header `Content-Type`."""
        return f"multipart/form-data; boundary={self.boundary}"

    def body(self) -> bytes:
        """Returns the bytes of the form."""
        line = f"--{self.boundary}".encode()
        return b"".join([*(_section(line, part) for part in self.parts), line, b"--\r\n"])


def _section(line: bytes, part: Part) -> bytes:
    head = f'Content-Disposition: form-data; name="{part.name}"'
    if part.file_name is not None:
        head += f'; filename="{part.file_name}"\r\nContent-Type: image/png'
    return b"".join([line, b"\r\n", head.encode(), b"\r\n\r\n", part.content, b"\r\n"])


class Dialect(ABC):
    """Form in which one kind of server takes edits, and the sizes that it makes.

    A module of `operators.dialects` holds one; a user's own is `my_package.module:ClassName`.
    """

    path: ClassVar[str] = "images/edits"
    """Path of the interface below its `/v1`."""
    shapes: ClassVar[Shapes] = ENGINE_SHAPES
    """Shapes of the pictures that it makes."""
    resolution_px: ClassVar[int] = 1024
    """Side of the square picture that its models are trained on."""
    multiple_px: ClassVar[int] = 16
    """Number that the sides of a picture are multiples of."""
    settings: ClassVar[frozenset[str]] = frozenset({"num_inference_steps", "guidance_scale"})
    """Fields of the method that its form has."""
    max_pictures: ClassVar[int] = 16
    """Most pictures of a request, the one to edit included."""

    @abstractmethod
    def fields(self, edit: ImageEdit) -> Mapping[str, Scalar]:
        """Returns the fields of an edit's form beside model, prompt and files, by name."""

    @abstractmethod
    def mask(self, mask: Pixels) -> Part:
        """Returns the part that holds a mask.

        Args:
            mask: uint8 HW of the size of the picture to edit, 255 may change.
        """

    def form(self, edit: ImageEdit) -> Form:
        """Returns the form of an edit: files first, in order, then what is asked for."""
        fields = {"model": edit.model, "prompt": edit.prompt, **self.fields(edit), **edit.more}
        parts = [*picture_parts(edit.pictures)]
        if edit.mask is not None:
            parts.append(self.mask(edit.mask))
        parts += [Part(name, _text(value).encode()) for name, value in fields.items()]
        return Form(tuple(parts))


def picture_parts(pictures: Sequence[bytes]) -> Iterator[Part]:
    """Yields the parts that hold pictures: `image` for one, `image[]` for each of several."""
    name = "image" if len(pictures) == 1 else "image[]"
    for place, picture in enumerate(pictures):
        yield Part(name, picture, f"image-{place}.png")


def alpha_mask(mask: Pixels) -> bytes:
    """Returns a mask as OpenAI reads it: a PNG that is transparent where the edit is to be.

    Args:
        mask: uint8 HW, 255 may change.
    """
    alpha = np.where(mask >= 128, 0, 255).astype(np.uint8)
    return encode(Picture(np.zeros((*mask.shape, 3), np.uint8), alpha))


def white_mask(mask: Pixels) -> bytes:
    """Returns a mask as diffusers reads it: a grey PNG that is white where the edit is to be.

    Args:
        mask: uint8 HW, 255 may change.
    """
    return encode_mask(np.where(mask >= 128, 255, 0).astype(np.uint8))


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
