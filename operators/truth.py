"""Distance of an edit from the true edited image, where that is known, beside the oracle.

The oracle is what the editor's VAE makes of the true target itself: no edit that goes through that
VAE can be expected to come nearer.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from overpaint.operators.framing.masks import binarise, dilate
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.operators.sources.access import Access, read_source
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, score
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.images import Pixels, decode, decode_mask
from overpaint.pipeline.operator import Answer, Kind, NewColumns, Operator, row_error_as_answer
from pydantic import Field

TARGET_URI = Column("target_uri", pa.string(), "URI of the true edited image")
GAIN = score("truth_gain", "1 - MSE(edited, target) / MSE(source, target); 1 is perfect")
OUTSIDE_PSNR_DB = score("truth_outside_psnr_db", "PSNR to the source outside the true mask, dB")
SUCCESS = Column("truth_success", pa.bool_(), "gain and outside PSNR reach their bounds")
ORACLE_GAIN = score("oracle_gain", "the gain of the VAE's round trip of the target")
ORACLE_SUCCESS = Column("oracle_success", pa.bool_(), "whether that round trip would succeed")

_MAX_PSNR_DB = 100.0


class Truth(UsesCheckpoint[Any]):
    """Measures success against the true edited image of a drawn world."""

    kind: ClassVar[Kind] = "score"
    renamed: ClassVar[Mapping[str, str]] = {"grow_px": "dilate_px"}
    part: ClassVar[str] = "text_to_image"

    min_gain: float = Field(default=0.5, le=1)
    """The least gain of a success."""
    min_outside_psnr_db: float = Field(default=25.0, ge=0)
    """The least PSNR to the source outside the true mask, in dB."""
    dilate_px: int = Field(default=2, ge=0)
    """Width by which the true mask is dilated before the outside is measured, in pixels."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source and the edit."""
        return (c.SOURCE_IMAGE, c.EDITED_IMAGE, c.BASE_URI)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The URIs of the truth; rows without it have no figures."""
        return (TARGET_URI, c.INPUT_MASK_URI)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """Gain, outside PSNR and success, of the edit and of the oracle."""
        return (GAIN, OUTSIDE_PSNR_DB, SUCCESS, ORACLE_GAIN, ORACLE_SUCCESS)

    def load(self) -> Any:
        """Loads the editor's model, or finds it loaded."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(self.weights)

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Returns one round trip through the VAE for a row with a truth."""
        del sources
        return Cost(vae_encode=1, vae_decode=1) if row.get(TARGET_URI.name) else Cost()

    def run(self, rows: Sequence[Row], model: Any) -> list[Answer]:
        """Reads each target and compares; the model sees one row at a time."""
        return [row_error_as_answer(self._compared, row, model) for row in rows]

    def _compared(self, row: Row, model: Any) -> NewColumns:
        target = _read_target(row)
        if target is None:
            return {column.name: None for column in self.outputs}
        oracle = _oracle(target, model)
        source = decode(row["source_image"]).rgb
        outside = self._outside(row, source)
        edited = decode(row["edited_image"]).rgb
        gain, psnr_db = _gain(edited, source, target), _psnr_db(edited, source, outside)
        oracle_gain = _gain(oracle, source, target)
        oracle_psnr_db = _psnr_db(oracle, source, outside)
        return {
            GAIN.name: gain,
            OUTSIDE_PSNR_DB.name: psnr_db,
            SUCCESS.name: self._is_success(gain, psnr_db),
            ORACLE_GAIN.name: oracle_gain,
            ORACLE_SUCCESS.name: self._is_success(oracle_gain, oracle_psnr_db),
        }

    def _is_success(self, gain: float, psnr_db: float) -> bool:
        return gain >= self.min_gain and psnr_db >= self.min_outside_psnr_db

    def _outside(self, row: Row, source: Pixels) -> np.ndarray[Any, np.dtype[np.bool_]]:
        uri = row["in_mask_uri"]
        if not uri:
            raise RowError("mask_missing", "a row with target_uri needs mask_uri: what may change")
        data = read_source(row["base_uri"], uri, Access())
        mask = binarise(decode_mask(data, source.shape[1], source.shape[0]))
        return dilate(mask, self.dilate_px) == 0


def _read_target(row: Row) -> Pixels | None:
    uri = row[TARGET_URI.name]
    return decode(read_source(row["base_uri"], uri, Access())).rgb if uri else None


def _oracle(target: Pixels, model: Any) -> Pixels:
    """Returns the VAE's round trip of a target."""
    from overpaint.operators.diffusion import latents as autoencode

    latents = autoencode.encode(model, autoencode.to_tensor([target], model.device))
    (picture,) = autoencode.decode(model, latents)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _mse(first: Pixels, second: Pixels) -> float:
    return float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)) / 255.0**2


def _gain(edited: Pixels, source: Pixels, target: Pixels) -> float:
    return 1.0 - _mse(edited, target) / _mse(source, target)


def _psnr_db(edited: Pixels, source: Pixels, outside: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    if not outside.any():
        return _MAX_PSNR_DB
    mse = _mse(edited[outside], source[outside])
    return min(_MAX_PSNR_DB, -10.0 * math.log10(mse)) if mse else _MAX_PSNR_DB
