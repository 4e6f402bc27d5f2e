"""ip2p: the table that diffusers' InstructPix2Pix scripts read."""

from typing import ClassVar

from overpaint.jobs.export.image_table import ImageTable


class Ip2p(ImageTable):
    """Parquet with `input_image`, `edit_prompt` and `edited_image`, as `datasets` loads it."""

    own: ClassVar[tuple[str, str, str]] = ("input_image", "edit_prompt", "edited_image")
    source: ClassVar[str] = "input_image"
    target: ClassVar[str] = "edited_image"
    caption: ClassVar[str] = "edit_prompt"

    @classmethod
    def command(cls) -> str:
        """Returns the arguments of diffusers' script; the columns have its names."""
        return "train_instruct_pix2pix.py --dataset_name FOLDER"
