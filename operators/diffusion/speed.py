"""Ways of making a transformer faster or smaller, and what they may do to neighbours.

A cache whose schedule is fixed keeps rows apart; one that decides by a mean over the batch mixes
them, and is refused where rows share a call.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from overpaint.operators.models.attention_backends import set_attention_backend

Speed = Literal["exact", "fast", "draft"]
"""`exact` is eager; `fast` compiles the repeated blocks, at each size anew; `draft` adds a cache of
a fixed schedule, TaylorSeer, which changes the picture."""
Cache = Literal[
    "",
    "taylorseer",
    "mag",
    "pyramid_attention_broadcast",
    "first_block",
    "sea",
    "teacache",
    "dbcache",
    "faster",
    "text_kv",
]
"""Caches of steps by name, those that are refused among them."""
Storage = Literal["", "float8"]
"""Number types in which a transformer's weights are kept between its calls."""

MIXES_ROWS: dict[str, str] = {
    "first_block": "FirstBlockCache",
    "sea": "SeaCache",
    "teacache": "TeaCache",
    "dbcache": "cache-dit's DBCache",
}
"""Caches that decide for all rows of a call by one mean over them."""
_NOT_FOR_PICTURES = {
    **{name: MIXES_ROWS[name] for name in ("sea", "teacache", "dbcache")},
    "faster": "FasterCache",
    "text_kv": "TextKVCache",
}
FIXED_SCHEDULES = ("taylorseer", "mag", "pyramid_attention_broadcast")
"""Caches that decide by the number of the step alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceleration:
    """Ways in which a transformer is made faster or smaller.

    Attributes:
        speed: see `Speed`.
        cache: cache of steps; empty for that of the speed.
        storage: number type of its weights between calls; empty for the one that it computes in.
        attention_backend: diffusers' name of the attention's kernels; empty for PyTorch's choice.
        mag_ratios: factors of MagCache, one for each step.
        num_inference_steps: steps of an edit, where MagCache needs them.
    """

    speed: Speed = "exact"
    cache: Cache = ""
    storage: Storage = ""
    attention_backend: str = ""
    mag_ratios: tuple[float, ...] = ()
    num_inference_steps: int = 0

    @property
    def chosen_cache(self) -> str:
        """The cache of steps, that of the speed where none is named; empty for none."""
        return self.cache or ("taylorseer" if self.speed == "draft" else "")


EXACT = Acceleration()
"""The transformer as it is."""


def check_cache(cache: str, *, rows_a_call: int) -> None:
    """Checks that a cache is there and keeps rows apart.

    Args:
        cache: name of a cache; empty for none.
        rows_a_call: most rows of a call of the transformer.

    Raises:
        ValueError: it is not, or does not.
    """
    if cache in MIXES_ROWS and rows_a_call > 1:
        raise ValueError(
            f"cache = {cache!r}: {MIXES_ROWS[cache]} decides by a mean over the batch, so that a "
            f"row's bytes would depend on its neighbours: batch_size = 1, or cache = 'taylorseer'"
        )
    if cache in _NOT_FOR_PICTURES:
        name = _NOT_FOR_PICTURES[cache]
        raise ValueError(f"cache = {cache!r}: diffusers has no {name} for pictures")


def check_ratios(own: Acceleration, *, strength: float) -> None:
    """Checks that MagCache has its ratios, and that all steps are walked.

    Args:
        own: what is done.
        strength: share of the steps that are walked.

    Raises:
        ValueError: it has not, or they are not.
    """
    if own.mag_ratios and own.cache != "mag":
        raise ValueError("mag_ratios are read by cache = 'mag' alone")
    if own.cache != "mag":
        return
    if not own.mag_ratios:
        raise ValueError(
            "cache = 'mag' needs mag_ratios, which are the checkpoint's own: diffusers logs them "
            "with MagCacheConfig(calibrate=True), and has those of FLUX.1 dev as FLUX_MAG_RATIOS"
        )
    if strength < 1:
        raise ValueError("cache = 'mag': its ratios are those of all steps: strength = 1")


def speed_up(pipeline: Any, own: Acceleration) -> None:
    """Makes the transformer of a pipeline faster or smaller.

    Args:
        pipeline: diffusers' pipeline; changed in place.
        own: what is done.

    Raises:
        ValueError: the transformer cannot be made so.
    """
    import torch

    transformer = getattr(pipeline, "transformer", None)
    if (own.speed, own.cache, own.storage, own.attention_backend) == ("exact", "", "", ""):
        return
    if transformer is None:
        kind = type(pipeline).__name__
        raise ValueError(f"speed, cache, storage, attention_backend: a {kind} has no transformer")
    if own.storage == "float8":
        transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=transformer.dtype
        )
    if own.attention_backend:
        set_attention_backend(transformer, own.attention_backend)
    if own.chosen_cache:
        if not hasattr(transformer, "enable_cache"):
            raise ValueError(f"cache: a {type(transformer).__name__} takes none")
        transformer.enable_cache(_cache_config(own, pipeline, transformer.dtype))
    if own.speed != "exact":
        transformer.compile_repeated_blocks(fullgraph=not own.chosen_cache)


@contextmanager
def steps_of_one_call(pipeline: Any) -> Generator[None]:
    """Starts a cache of steps anew, whatever became of the call before.

    Pipelines that tell no branches apart have one in common.
    """
    transformer: Any = getattr(pipeline, "transformer", None)
    if not getattr(transformer, "is_cache_enabled", False):
        yield
        return
    transformer._reset_stateful_cache()  # has no public name
    with transformer.cache_context("text"):
        yield


def _cache_config(own: Acceleration, pipeline: Any, dtype: Any) -> Any:
    import diffusers

    hooks: Any = diffusers
    makers: Mapping[str, Any] = {
        "taylorseer": lambda: hooks.TaylorSeerCacheConfig(
            cache_interval=2, disable_cache_before_step=1, taylor_factors_dtype=dtype
        ),
        "mag": lambda: hooks.MagCacheConfig(
            num_inference_steps=own.num_inference_steps, mag_ratios=list(own.mag_ratios)
        ),
        "pyramid_attention_broadcast": lambda: hooks.PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            # Few-step schedules are above diffusers' 800 nearly to their end.
            spatial_attention_timestep_skip_range=(100, 1000),
            spatial_attention_block_identifiers=("blocks",),
            current_timestep_callback=lambda: pipeline.current_timestep,
        ),
        "first_block": hooks.FirstBlockCacheConfig,
    }
    return makers[own.chosen_cache]()
