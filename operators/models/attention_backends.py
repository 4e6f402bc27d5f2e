"""Kernels of a transformer's attention, by the names of diffusers' `set_attention_backend`."""

from importlib.util import find_spec
from typing import Any

from overpaint.pipeline.errors import near_miss

_NATIVE = ("native", "_native_cudnn", "_native_efficient", "_native_flash", "_native_math")
_SAGE = (
    "sage",
    "sage_varlen",
    "_sage_qk_int8_pv_fp8_cuda",
    "_sage_qk_int8_pv_fp8_cuda_sm90",
    "_sage_qk_int8_pv_fp16_cuda",
    "_sage_qk_int8_pv_fp16_triton",
)
_LIBRARIES: dict[str, str] = {
    **dict.fromkeys((*_NATIVE, "flex"), "torch"),
    **dict.fromkeys(("flash", "flash_varlen"), "flash_attn"),
    **dict.fromkeys(("_flash_3", "_flash_varlen_3"), "flash_attn_interface"),
    **dict.fromkeys(_SAGE, "sageattention"),
    "xformers": "xformers",
    "_native_npu": "torch_npu",
    "_native_xla": "torch_xla",
}
"""Names of backends, each with the module that it needs."""
ATTENTION_BACKENDS = tuple(_LIBRARIES)
_ON_CPU = ("native", "_native_flash", "_native_math")


def check_attention_backend(name: str) -> None:
    """Checks, before anything is started, that there is a backend of that name.

    Args:
        name: diffusers' name; empty for PyTorch's choice.

    Raises:
        ValueError: there is none, or its library is not installed.
    """
    if name.endswith("_hub"):
        raise ValueError(
            f"attention_backend = {name!r} would run code that is fetched from the hub: install "
            f"the library, and name one of {', '.join(_LIBRARIES)}"
        )
    if name and name not in _LIBRARIES:
        hint = near_miss(name, _LIBRARIES)
        raise ValueError(f"attention_backend = {name!r}: diffusers has no such backend: {hint}")
    if name and find_spec(_LIBRARIES[name]) is None:
        library = _LIBRARIES[name]
        raise ValueError(f"attention_backend = {name!r} needs the module {library}: install it")


def set_attention_backend(transformer: Any, name: str) -> None:
    """Makes the attention of one transformer use a backend, and of no other model.

    Raises:
        ValueError: the backend is not usable here, or the transformer has no choice.
    """
    from diffusers.models import attention_dispatch

    dispatch: Any = attention_dispatch
    registry = dispatch._AttentionBackendRegistry
    device = transformer.device.type
    if device == "cpu" and name not in _ON_CPU:
        raise ValueError(f"attention_backend = {name!r} has no kernels for a CPU")
    usual, _ = registry.get_active_backend()
    try:
        transformer.set_attention_backend(name)
    except RuntimeError as error:
        raise ValueError(f"attention_backend = {name!r}: {error}") from error
    finally:
        registry.set_active_backend(usual)  # diffusers sets it for all models of the process
    backend = dispatch.AttentionBackendName(name)
    processors = [getattr(m, "processor", None) for m in transformer.modules()]
    if backend not in [getattr(it, "_attention_backend", None) for it in processors]:
        kind = type(transformer).__name__
        raise ValueError(f"attention_backend: diffusers gives the attention of a {kind} no choice")
