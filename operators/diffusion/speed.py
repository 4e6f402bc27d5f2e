"""Ways of making a transformer faster or smaller, and what they may do to neighbours.

A cache whose schedule is fixed keeps rows apart; one that decides by a mean over the batch mixes
them, and is refused where rows share a call.
"""

from typing import Any, Literal

Speed = Literal["exact", "fast", "draft"]
"""`exact` is eager; `fast` compiles the repeated blocks, at each size anew; `draft` adds a cache of
a fixed schedule, TaylorSeer, which changes the picture."""
Cache = Literal["", "taylorseer", "first_block", "sea", "teacache", "dbcache"]
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
_NOT_FOR_PICTURES = ("sea", "teacache", "dbcache")


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
        raise ValueError(f"cache = {cache!r}: diffusers has no {MIXES_ROWS[cache]} for pictures")


def speed_up(pipeline: Any, speed: Speed, cache: Cache, storage: Storage) -> None:
    """Makes the transformer of a pipeline faster or smaller.

    Args:
        pipeline: diffusers' pipeline; changed in place.
        speed: see `Speed`.
        cache: cache of steps; empty for that of the speed.
        storage: number type of its weights between calls; empty for the one that it computes in.

    Raises:
        ValueError: the transformer cannot be made so.
    """
    import torch

    transformer = getattr(pipeline, "transformer", None)
    if (speed, cache, storage) == ("exact", "", ""):
        return
    if transformer is None:
        raise ValueError(f"speed, cache, storage: a {type(pipeline).__name__} has no transformer")
    if storage == "float8":
        transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=transformer.dtype
        )
    if chosen := cache or ("taylorseer" if speed == "draft" else ""):
        transformer.enable_cache(_cache_config(chosen, transformer.dtype))
    if speed != "exact":
        transformer.compile_repeated_blocks(fullgraph=not chosen)


def _cache_config(cache: str, dtype: Any) -> Any:
    from diffusers.hooks.first_block_cache import FirstBlockCacheConfig
    from diffusers.hooks.taylorseer_cache import TaylorSeerCacheConfig

    if cache == "taylorseer":
        return TaylorSeerCacheConfig(
            cache_interval=2, disable_cache_before_step=1, taylor_factors_dtype=dtype
        )
    return FirstBlockCacheConfig()
