"""kontext: the table that diffusers' Kontext and FLUX.2 img2img scripts read."""

from typing import ClassVar

from overpaint.jobs.export.image_table import ImageTable


class Kontext(ImageTable):
    """Parquet with `image` (the target), `cond_image` (the source) and `caption`."""

    own: ClassVar[tuple[str, str, str]] = ("image", "cond_image", "caption")
    source: ClassVar[str] = "cond_image"
    target: ClassVar[str] = "image"
    caption: ClassVar[str] = "caption"

    @classmethod
    def command(cls) -> str:
        """Returns the arguments of diffusers' script, which has no names for two of the columns."""
        return (
            "train_dreambooth_lora_flux_kontext.py --dataset_name FOLDER --image_column image "
            "--cond_image_column cond_image --caption_column caption"
        )
