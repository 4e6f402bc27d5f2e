"""Field of methods that make several tries, of which CLIP chooses."""

from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.models import clip
from overpaint.operators.models.weights import PAPERCUT, Checkpoint


class ChoosesByClip(LatentMethod):
    """A method with weights of CLIP beside its editor's."""

    clip_checkpoint: str = PAPERCUT
    """Weights of the CLIP that chooses: "papercut", a folder, or a hub id."""

    @property
    def clip_weights(self) -> Checkpoint:
        """Weights of the CLIP that chooses."""
        return Checkpoint(name=self.clip_checkpoint, part=clip.PART)

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks the weights of CLIP too."""
        super().check_weights(checkpoint)
        self.clip_weights.check()

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights of CLIP."""
        return {"clip_checkpoint": self.clip_weights.identity()}
