"""Cost of a row: how many network evaluations an operator needs for it.

Counts are exact and need no GPU, so that `overpaint plan` can add them up before anything is
started. A batch costs the sum of its rows: one call with one evaluation for each row in it.
"""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Network evaluations for one row, or for several rows added up.

    Example:
        >>> Cost(forward=50, vae_decode=1) + Cost(forward=25)
        Cost(forward=75, backward=0, control=0, vae_encode=0, vae_decode=1, ...)
        >>> sum([Cost(clip=4), Cost(clip=4)], Cost()).counts()
        {'clip': 8}

    Attributes:
        forward: evaluations of the denoising network (UNet or transformer), one for each branch of
            guidance.
        backward: backward passes through the denoising network.
        control: evaluations of a network that steers the denoising one, such as a ControlNet.
        vae_encode: pictures encoded to latents.
        vae_decode: latents decoded to pictures.
        vae_backward: backward passes through the decoder.
        text: prompts embedded.
        text_backward: backward passes through the text encoder.
        clip: images and texts embedded by CLIP.
        clip_backward: backward passes through CLIP.
        requests: edits asked of a server.
        vision: pictures that a text encoder sees beside its prompt, or an IP-Adapter.
    """

    forward: int = 0
    backward: int = 0
    control: int = 0
    vae_encode: int = 0
    vae_decode: int = 0
    vae_backward: int = 0
    text: int = 0
    text_backward: int = 0
    clip: int = 0
    clip_backward: int = 0
    requests: int = 0
    vision: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            **{kind: count + getattr(other, kind) for kind, count in self._by_kind().items()}
        )

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self.counts().items())

    def counts(self) -> dict[str, int]:
        """Returns the evaluations by kind, without the kinds that are not used."""
        return {kind: count for kind, count in self._by_kind().items() if count}

    def _by_kind(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
