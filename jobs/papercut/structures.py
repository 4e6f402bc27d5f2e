"""Outlines of a house and a car, seen from the front, the side and the back."""

from functools import lru_cache

from overpaint.jobs.papercut.paper import Cutout, Piece, cut, piece
from overpaint.jobs.papercut.scene import Viewpoint


@lru_cache(maxsize=64)
def house_cutout(view: Viewpoint, radius_px: int) -> Cutout:
    """Cuts a house; paints `wall`, `roof`, `glass`, `door`, `cream`, `stone`, `leaf`."""
    return cut(_HOUSE[view], radius_px)


@lru_cache(maxsize=64)
def car_cutout(view: Viewpoint, radius_px: int) -> Cutout:
    """Cuts a car; paints `main`, `shade`, `glass`, `tyre`, `metal`, `lamp`, `tail`."""
    return cut(_CAR[view], radius_px)


def _window(x: int, y: int, half: int) -> tuple[Piece, ...]:
    frame, pane = half, half - 5
    return (
        piece(
            "cream",
            f"M{x - frame},{y - frame} L{x + frame},{y - frame}"
            f" {x + frame},{y + frame} {x - frame},{y + frame}Z",
        ),
        piece(
            "glass",
            f"M{x - pane},{y - pane} L{x + pane},{y - pane}"
            f" {x + pane},{y + pane} {x - pane},{y + pane}Z",
        ),
        piece("cream", f"S 5 {x},{y - pane} {x},{y + pane}", f"S 5 {x - pane},{y} {x + pane},{y}"),
    )


_HOUSE: dict[Viewpoint, tuple[Piece, ...]] = {
    "front": (
        piece("stone", "M38,-92 L60,-92 60,-40 38,-40Z"),
        piece("wall", "M-72,-20 L0,-86 72,-20 72,92 -72,92Z"),
        piece("roof", "M0,-104 L98,-16 84,0 0,-74 -84,0 -98,-16Z"),
        piece("cream", "O 0,-28 19,19"),
        piece("glass", "O 0,-28 13,13"),
        *_window(-42, 34, 20),
        *_window(42, 34, 20),
        piece("door", "M-18,92 L-18,40 C-18,16 18,16 18,40 L18,92Z"),
        piece("cream", "O 9,60 5,5"),
    ),
    "side": (
        piece("stone", "M-62,-94 L-38,-94 -38,-50 -62,-50Z"),
        piece("wall", "M-90,-10 L90,-10 90,92 -90,92Z"),
        piece("roof", "M-70,-74 L70,-74 104,6 -104,6Z"),
        *_window(-56, 44, 22),
        *_window(0, 44, 22),
        *_window(56, 44, 22),
    ),
    "back": (
        piece("stone", "M-60,-92 L-38,-92 -38,-40 -60,-40Z"),
        piece("wall", "M-72,-20 L0,-86 72,-20 72,92 -72,92Z"),
        piece("roof", "M0,-104 L98,-16 84,0 0,-74 -84,0 -98,-16Z"),
        *_window(0, -6, 20),
        piece(
            "leaf",
            "O -60,74 28,26",
            "O -22,80 28,22",
            "O 20,76 30,26",
            "O 60,80 28,22",
            "M-88,80 L88,80 88,98 -88,98Z",
        ),
    ),
}
_CAR: dict[Viewpoint, tuple[Piece, ...]] = {
    "front": (
        piece("tyre", "M-70,30 L-42,30 -42,72 -70,72Z", "M70,30 L42,30 42,72 70,72Z"),
        piece("main", "M-56,-14 C-50,-50 -44,-62 -34,-66 L34,-66 C44,-62 50,-50 56,-14Z"),
        piece("glass", "M-44,-14 C-40,-40 -36,-50 -30,-54 L30,-54 C36,-50 40,-40 44,-14Z"),
        piece("main", "M-78,8 C-76,-10 -66,-18 -52,-18 L52,-18 C66,-18 76,-10 78,8 L78,54 -78,54Z"),
        piece("lamp", "O -54,10 16,16", "O 54,10 16,16"),
        piece("shade", "M-30,4 L30,4 26,22 -26,22Z"),
        piece("metal", "S 15 -74,46 74,46"),
    ),
    "side": (
        piece("main", "M-56,-8 C-46,-40 -36,-58 -22,-60 L26,-60 C44,-56 56,-36 64,-8Z"),
        piece("glass", "M-42,-10 C-36,-34 -28,-48 -18,-49 L-2,-49 -2,-10Z"),
        piece("glass", "M8,-10 L8,-49 24,-49 C36,-46 44,-32 50,-10Z"),
        piece("main", "M-98,40 L-98,10 C-96,-4 -84,-8 -56,-12 L64,-12 C88,-8 98,2 98,18 L98,40Z"),
        piece("lamp", "O -92,14 9,10"),
        piece("tail", "M98,6 L98,22 88,22 88,6Z"),
        piece("shade", "S 5 4,-8 4,30"),
        piece("tyre", "O -54,42 28,28", "O 54,42 28,28"),
        piece("metal", "O -54,42 13,13", "O 54,42 13,13"),
    ),
    "back": (
        piece("tyre", "M-70,30 L-42,30 -42,72 -70,72Z", "M70,30 L42,30 42,72 70,72Z"),
        piece("main", "M-60,-10 C-56,-48 -48,-62 -38,-66 L38,-66 C48,-62 56,-48 60,-10Z"),
        piece("shade", "M-44,-20 C-42,-42 -38,-50 -32,-52 L32,-52 C38,-50 42,-42 44,-20Z"),
        piece("main", "M-78,8 C-76,-8 -66,-14 -52,-14 L52,-14 C66,-14 76,-8 78,8 L78,58 -78,58Z"),
        piece("tail", "M-74,2 L-48,2 -48,22 -74,22Z", "M74,2 L48,2 48,22 74,22Z"),
        piece("cream", "M-24,14 L24,14 24,34 -24,34Z"),
        piece("metal", "S 9 -70,50 70,50"),
    ),
}
