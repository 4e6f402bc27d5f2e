"""Attention controls: they see queries, keys, values and attention maps of every layer.

They also see what enters residual blocks, what these add, and what the middle block and the blocks
of the decoder give: the features that some methods inject or compare beside attention.

A UNet call holds several branches (source, negative, text, ...), each with one entry for every row
of the batch. A control may copy between the branches of a row, never between rows.

Shapes: n branches, b rows, h heads, q queries, k keys, d channels of a head; c channels of a
feature of h by w places.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from overpaint.operators.diffusion.schedule import Step

if TYPE_CHECKING:
    from torch import Tensor


Kind = Literal["self", "cross", "residual", "middle", "block", "input"]
"""Kinds of layers that edits can act in."""


class Layer(NamedTuple):
    """An attention layer, a residual block, the middle block, or a whole block of the decoder.

    Attributes:
        name: path in the UNet.
        kind: `self`-attention, `cross`-attention, whose keys are text, `residual` block, the
            `middle` block, a `block` of the decoder, or `input` of a residual block without what
            skips to it from the encoder.
        depth: number of times that the latent was halved there: 0 is full resolution; for a
            `block`, in what it gives.
        order: place among the layers of its kind, in order of execution: 0 runs first.
    """

    name: str
    kind: Kind
    depth: int
    order: int

    @property
    def is_cross(self) -> bool:
        """True for cross-attention."""
        return self.kind == "cross"


class Site(NamedTuple):
    """A layer at a step: the place where a control acts.

    Attributes:
        layer: attention layer.
        step: sampling step.
        branches: names of the branches of the call, in their order along n.
        size: rows and columns of the layer's grid.
    """

    layer: Layer
    step: Step
    branches: tuple[str, ...]
    size: tuple[int, int]


class QKV(NamedTuple):
    """The inputs of attention.

    Attributes:
        query: queries nbhqd.
        key: keys nbhkd.
        value: values nbhkd.
        bias: added to the logits of attention, broadcastable to nbhqk; minus infinity forbids a
            key. None adds nothing.
    """

    query: "Tensor"
    key: "Tensor"
    value: "Tensor"
    bias: "Tensor | None" = None


class Attended(NamedTuple):
    """Attended values of a layer, with its projections, which can read other contexts.

    Attributes:
        query: queries nbhqd.
        output: attended values nbqm, the m channels of all heads, before the output projection.
        to_key: projects a context bkc to keys bkm.
        to_value: projects a context bkc to values bkm.
        key_weight: weight mc of the projection to keys.
        scale: factor of the logits.
    """

    query: "Tensor"
    output: "Tensor"
    to_key: "Callable[[Tensor], Tensor]"
    to_value: "Callable[[Tensor], Tensor]"
    key_weight: "Tensor"
    scale: float


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


class ContextEdit(Protocol):
    """An edit of attended values, which can read contexts beside the layer's own."""

    def applies(self, site: Site) -> bool:
        """Tells whether the edit changes this layer in this step."""
        ...

    def __call__(self, site: Site, attended: Attended) -> "Tensor":
        """Returns the attended values nbqm to project."""
        ...


class AttentionOutputEdit(Protocol):
    """An edit of what an attention layer adds to the states that enter it."""

    def applies(self, site: Site) -> bool:
        """Tells whether the edit changes this layer in this step."""
        ...

    def __call__(self, site: Site, output: "Tensor") -> "Tensor":
        """Returns the output to add, nbqm of m channels of the layer."""
        ...


class FeatureEdit(Protocol):
    """An edit of what enters a residual block or is added by it, or of a decoder's block."""

    def applies(self, site: Site) -> bool:
        """Tells whether the edit changes this block in this step."""
        ...

    def __call__(self, site: Site, feature: "Tensor") -> "Tensor":
        """Returns the feature nbchw to go on with."""
        ...


class AttentionEdits(NamedTuple):
    """Edits in the order in which they apply.

    Attributes:
        qkv: edits of queries, keys and values.
        maps: edits of attention maps.
        outputs: edits of what attention layers add.
        features: edits of what enters residual blocks or is added by them, and of what the middle
            block and the decoder's blocks give.
        contexts: edits of attended values, before `outputs`.
    """

    qkv: Sequence[QKVEdit] = ()
    maps: Sequence[AttentionMapEdit] = ()
    outputs: Sequence[AttentionOutputEdit] = ()
    features: Sequence[FeatureEdit] = ()
    contexts: Sequence[ContextEdit] = ()

    def then(self, edits: "AttentionEdits") -> "AttentionEdits":
        """Returns these edits and, after them, others."""
        return AttentionEdits(
            [*self.qkv, *edits.qkv],
            [*self.maps, *edits.maps],
            [*self.outputs, *edits.outputs],
            [*self.features, *edits.features],
            [*self.contexts, *edits.contexts],
        )


NO_EDITS = AttentionEdits()


@dataclass(eq=False, slots=True)
class AttentionControl:
    """Switch for every layer of one UNet; off, layers compute as they always do.

    Attributes:
        layers: every layer that edits can act in, in order of execution among its kind; inputs of
            residual blocks, blocks of the decoder and the middle block come last.
        edits: edits that are on.
        branches: names of the branches of the call.
        step: step of the call; None while the switch is off.
        size: rows and columns of the latents of the call.
    """

    layers: tuple[Layer, ...] = ()
    edits: AttentionEdits = NO_EDITS
    branches: tuple[str, ...] = ()
    step: Step | None = None
    size: tuple[int, int] = (0, 0)

    @contextmanager
    def on(
        self,
        edits: AttentionEdits,
        branches: Sequence[str],
        step: Step,
        size: tuple[int, int],
    ) -> Generator[None]:
        """Applies edits during one UNet call."""
        self.edits, self.branches, self.step, self.size = edits, tuple(branches), step, size
        try:
            yield
        finally:
            self.edits, self.branches, self.step = NO_EDITS, (), None

    def edits_of(self, layer: Layer) -> tuple[Site | None, AttentionEdits]:
        """Returns the site of a layer in this call, and the edits that apply there."""
        if self.step is None or not any(self.edits):
            return None, NO_EDITS
        # Each halving rounds up, as a convolution of stride 2 does.
        height, width = (-(-side // 2**layer.depth) for side in self.size)
        site = Site(layer, self.step, self.branches, (height, width))
        return site, AttentionEdits(
            [edit for edit in self.edits.qkv if edit.applies(site)],
            [edit for edit in self.edits.maps if edit.applies(site)],
            [edit for edit in self.edits.outputs if edit.applies(site)],
            [edit for edit in self.edits.features if edit.applies(site)],
            [edit for edit in self.edits.contexts if edit.applies(site)],
        )
