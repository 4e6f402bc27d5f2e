"""What a Papercut picture is: typed values that say everything the pixels are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "test"]
Family = Literal["objects", "face", "figure", "house", "car"]
Kind = Literal[
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "diamond",
    "moon",
    "flower",
    "leaf",
    "fish",
    "tree",
    "mushroom",
    "cup",
    "boat",
    "balloon",
    "apple",
    "butterfly",
    "cat",
]
Colour = Literal[
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "brown",
    "white",
    "black",
]
Texture = Literal["plain", "striped", "dotted", "checked"]
BackgroundKind = Literal["plain", "striped", "dotted", "checked", "sky", "meadow", "sea", "night"]
Tint = Literal["mint", "peach", "lemon", "lilac", "rose", "cream", "ice", "sand", "navy", "forest"]
Expression = Literal["happy", "sad", "surprised", "angry", "sleepy"]
HairStyle = Literal["short", "long", "curly"]
HairColour = Literal["black", "brown", "blond", "ginger"]
SkinTone = Literal["fair", "tan", "bronze", "deep"]
Pose = Literal["standing", "cheering", "waving", "running", "sitting"]
Viewpoint = Literal["front", "side", "back"]
Style = Literal["flat", "sketch", "pixelated", "watercolour", "night"]
Size = Literal["small", "medium", "large"]

FAMILIES: tuple[Family, ...] = get_args(Family)
KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
TEXTURES: tuple[Texture, ...] = get_args(Texture)
TINTS: tuple[Tint, ...] = get_args(Tint)
PATTERNED: tuple[BackgroundKind, ...] = ("striped", "dotted", "checked")
LANDSCAPES: tuple[BackgroundKind, ...] = ("sky", "meadow", "sea", "night")
EXPRESSIONS: tuple[Expression, ...] = get_args(Expression)
HAIR_STYLES: tuple[HairStyle, ...] = get_args(HairStyle)
HAIR_COLOURS: tuple[HairColour, ...] = get_args(HairColour)
SKIN_TONES: tuple[SkinTone, ...] = get_args(SkinTone)
POSES: tuple[Pose, ...] = get_args(Pose)
VIEWPOINTS: tuple[Viewpoint, ...] = get_args(Viewpoint)
STYLES: tuple[Style, ...] = get_args(Style)
SIZES: tuple[Size, ...] = get_args(Size)

SIZE_PX = 64
MIN_RADIUS_PX = 10
MAX_RADIUS_PX = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """The sheet that everything lies on.

    Attributes:
        kind: Plain, patterned in two close tints, or a landscape.
        tint: Colour of a plain or patterned sheet; a landscape has its own colours and says None.
    """

    kind: BackgroundKind
    tint: Tint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One paper object; `x_px`, `y_px` is its centre, `radius_px` half of its bounding width."""

    kind: Kind
    colour: Colour
    texture: Texture = "plain"
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A round head that fills most of the picture."""

    expression: Expression
    skin: SkinTone
    hair_style: HairStyle
    hair_colour: HairColour
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A whole person in one of the named poses; `radius_px` is half of the standing height."""

    pose: Pose
    shirt: Colour
    trousers: Colour
    skin: SkinTone
    hair_colour: HairColour
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A house seen from one side; `radius_px` is half of its bounding width."""

    view: Viewpoint
    wall: Colour
    roof: Colour
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """A car seen from one side; `radius_px` is half of the length of its side view."""

    view: Viewpoint
    colour: Colour
    x_px: int
    y_px: int
    radius_px: int


Subject = Face | Figure | House | Car


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One picture.

    Attributes:
        background: What is behind everything.
        things: Paper objects from back to front; only scenes without a subject have any.
        subject: The face, figure, house or car that the scene shows, None in a scene of objects.
        style: How the finished picture is rendered as a whole.
    """

    background: Background
    things: tuple[Thing, ...] = ()
    subject: Subject | None = None
    style: Style = "flat"

    @property
    def family(self) -> Family:
        """Which family of scenes this one belongs to."""
        match self.subject:
            case None:
                return "objects"
            case Face():
                return "face"
            case Figure():
                return "figure"
            case House():
                return "house"
            case Car():
                return "car"


def size_of(radius_px: int) -> Size:
    """The size word of a thing: small up to 13 px, medium up to 17 px, large above."""
    if radius_px <= 13:
        return "small"
    return "medium" if radius_px <= 17 else "large"
