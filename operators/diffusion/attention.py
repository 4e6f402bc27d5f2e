"""Attention controls: they see queries, keys, values and attention maps of every layer.

A UNet call holds several branches (source, negative, text, ...), each with one entry for every row
of the batch. A control may copy between the branches of a row, never between rows.

Shapes: n branches, b rows, h heads, q queries, k keys, d channels of a head.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from overpaint.operators.diffusion.schedule import Step

if TYPE_CHECKING:
    from torch import Tensor


class Layer(NamedTuple):
    """An attention layer.

    Attributes:
        name: path in the UNet.
        is_cross: True for cross-attention, whose keys are text.
        depth: number of times that the latent was halved there: 0 is full resolution.
    """

    name: str
    is_cross: bool
    depth: int


class Site(NamedTuple):
    """A layer at a step: the place where a control acts.

    Attributes:
        layer: attention layer.
        step: sampling step.
        branches: names of the branches of the call, in their order along n.
    """

    layer: Layer
    step: Step
    branches: tuple[str, ...]


class QKV(NamedTuple):
    """The inputs of attention.

    Attributes:
        query: queries nbhqd.
        key: keys nbhkd.
        value: values nbhkd.
    """

    query: "Tensor"
    key: "Tensor"
    value: "Tensor"


class QKVEdit(Protocol):
    """An edit of queries, keys and values."""

    def applies(self, site: Site) -> bool:
        """Tells whether the edit changes this layer in this step."""
        ...

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns the queries, keys and values to use."""
        ...


class AttentionMapEdit(Protocol):
    """An edit of attention maps; a layer that computes them takes more memory."""

    def applies(self, site: Site) -> bool:
        """Tells whether the edit changes this layer in this step."""
        ...

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns the attention maps nbhqk to use."""
        ...


class AttentionEdits(NamedTuple):
    """Edits in the order in which they apply.

    Attributes:
        qkv: edits of queries, keys and values.
        maps: edits of attention maps.
    """

    qkv: Sequence[QKVEdit] = ()
    maps: Sequence[AttentionMapEdit] = ()


NO_EDITS = AttentionEdits()


@dataclass(eq=False, slots=True)
class AttentionControl:
    """Switch for every attention layer of one UNet; off, layers compute as they always do.

    Attributes:
        edits: edits that are on.
        branches: names of the branches of the call.
        step: step of the call; None while the switch is off.
    """

    edits: AttentionEdits = NO_EDITS
    branches: tuple[str, ...] = ()
    step: Step | None = None

    @contextmanager
    def on(self, edits: AttentionEdits, branches: Sequence[str], step: Step) -> Generator[None]:
        """Applies edits during one UNet call."""
        self.edits, self.branches, self.step = edits, tuple(branches), step
        try:
            yield
        finally:
            self.edits, self.branches, self.step = NO_EDITS, (), None

    def edits_of(self, layer: Layer) -> tuple[Site | None, AttentionEdits]:
        """Returns the site of a layer in this call, and the edits that apply there."""
        if self.step is None:
            return None, NO_EDITS
        site = Site(layer, self.step, self.branches)
        return site, AttentionEdits(
            [edit for edit in self.edits.qkv if edit.applies(site)],
            [edit for edit in self.edits.maps if edit.applies(site)],
        )
