"""Scene description: typed values from which every pixel of a picture is drawn."""

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
    """Sheet behind everything.

    Attributes:
        kind: plain, patterned in two close tints, or a landscape.
        tint: colour of a plain or patterned sheet; None for a landscape, which has its own colours.
    """

    kind: BackgroundKind
    tint: Tint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Paper object.

    Attributes:
        kind: shape of the object.
        colour: colour of its paper.
        texture: pattern of its paper.
        x_px: horizontal position of its centre.
        y_px: vertical position of its centre.
        radius_px: half of its bounding width.
    """

    kind: Kind
    colour: Colour
    texture: Texture = "plain"
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """Round head that fills most of the picture.

    Attributes:
        expression: expression of the features.
        skin: colour of the skin.
        hair_style: shape of the hair.
        hair_colour: colour of the hair.
        x_px: horizontal position of its centre.
        y_px: vertical position of its centre.
        radius_px: radius of the head.
    """

    expression: Expression
    skin: SkinTone
    hair_style: HairStyle
    hair_colour: HairColour
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Whole person.

    Attributes:
        pose: position of the limbs.
        shirt: colour of the shirt.
        trousers: colour of the trousers.
        skin: colour of the skin.
        hair_colour: colour of the hair.
        x_px: horizontal position of its centre.
        y_px: vertical position of its centre.
        radius_px: half of the standing height.
    """

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
    """House seen from one side.

    Attributes:
        view: side that is seen.
        wall: colour of the walls.
        roof: colour of the roof.
        x_px: horizontal position of its centre.
        y_px: vertical position of its centre.
        radius_px: half of its bounding width.
    """

    view: Viewpoint
    wall: Colour
    roof: Colour
    x_px: int
    y_px: int
    radius_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """Car seen from one side.

    Attributes:
        view: side that is seen.
        colour: colour of the body.
        x_px: horizontal position of its centre.
        y_px: vertical position of its centre.
        radius_px: half of the length of its side view.
    """

    view: Viewpoint
    colour: Colour
    x_px: int
    y_px: int
    radius_px: int


Subject = Face | Figure | House | Car


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Content of one picture.

    Attributes:
        background: sheet behind everything.
        things: paper objects from back to front; empty in a scene with a subject.
        subject: face, figure, house or car that the scene shows; None in a scene of objects.
        style: rendering of the whole finished picture.
    """

    background: Background
    things: tuple[Thing, ...] = ()
    subject: Subject | None = None
    style: Style = "flat"

    @property
    def family(self) -> Family:
        """Family of scenes that this one belongs to."""
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
    """Returns the size word of a thing: small up to 13 px, medium up to 17 px, large above."""
    if radius_px <= 13:
        return "small"
    return "medium" if radius_px <= 17 else "large"
