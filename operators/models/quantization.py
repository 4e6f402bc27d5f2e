"""Quantised weights: the linear layers of a pipeline's parts, kept in 8 or 4 bits.

Layers are quantised after adapters are fused, so that these are quantised with them, and each on
the device, which never holds a part whole. They are the layers, and the digits, of diffusers' own
`TorchAoConfig` and `BitsAndBytesConfig`.
"""

from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from overpaint.pipeline.errors import near_miss

Quantization = Literal[
    "", "int8_weight_only", "float8_weight_only", "bitsandbytes_8bit", "bitsandbytes_4bit"
]
"""Ways of keeping weights; empty for the checkpoint's number type."""


class Quantized(NamedTuple):
    """Quantised weights of a pipeline.

    Attributes:
        quantization: see `Quantization`.
        components: names of the pipeline's parts.
    """

    quantization: Quantization = ""
    components: tuple[str, ...] = ()


WHOLE = Quantized()
"""The weights as they are."""

_LIBRARIES = {
    "int8_weight_only": "torchao",
    "float8_weight_only": "torchao",
    "bitsandbytes_8bit": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
}


def check_quantization(quantization: Quantization, *, rows_a_call: int) -> None:
    """Checks, before anything is started, that weights can be quantised so.

    Args:
        quantization: see `Quantization`.
        rows_a_call: most rows of a call of the transformer.

    Raises:
        ValueError: the library is not installed, or rows would not be alone.
    """
    if not quantization:
        return
    library = _LIBRARIES[quantization]
    if find_spec(library) is None:
        raise ValueError(
            f"quantization = {quantization!r} needs {library}: pip install overpaint[quantization]"
        )
    if quantization == "bitsandbytes_8bit" and rows_a_call > 1:
        raise ValueError(
            f"quantization = {quantization!r}: LLM.int8 takes the columns with outliers of all "
            "rows of a call, so that a row's bytes would depend on its neighbours: "
            "batch_size = 1, or quantization = 'int8_weight_only'"
        )


def check_components(components: Sequence[str], known: Collection[str]) -> None:
    """Checks that a checkpoint has the parts that are to be quantised.

    Raises:
        ValueError: it has not; names the near miss.
    """
    for name in components:
        if name not in known:
            hint = near_miss(name, known)
            raise ValueError(f"components_to_quantize: the checkpoint has no {name!r}: {hint}")


def quantize(pipeline: Any, own: Quantized, device: Any) -> None:
    """Quantises the linear layers of parts of a pipeline, and leaves those on a device.

    Layers that a part keeps in float32, and the one that makes words of a text encoder's states,
    are left as they are.

    Args:
        pipeline: diffusers' pipeline, with what is fused into its weights; changed in place.
        own: which weights; none changes nothing.
        device: where layers are quantised.

    Raises:
        ValueError: the pipeline has no such part.
    """
    if not own.quantization:
        return
    parts = _parts(pipeline)
    check_components(own.components, parts)
    for name in own.components:
        for parent, own_name, layer in list(_layers(parts[name])):
            setattr(parent, own_name, _quantized(layer.to(device), own.quantization))


def _parts(pipeline: Any) -> dict[str, Any]:
    from torch.nn import Linear, Module

    parts = {k: v for k, v in pipeline.components.items() if isinstance(v, Module)}
    return {k: v for k, v in parts.items() if any(isinstance(m, Linear) for m in v.modules())}


def _layers(part: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yields the layers that are quantised, each with its parent and its name there."""
    from torch.nn import Linear

    kept: Sequence[str] = getattr(part, "_keep_in_fp32_modules", None) or ()
    head = part.get_output_embeddings() if hasattr(part, "get_output_embeddings") else None
    for path, parent in part.named_modules():
        for name, layer in parent.named_children():
            whole = f"{path}.{name}.weight"
            if (
                type(layer) is Linear
                and layer is not head
                and not any(f"{k}." in whole for k in kept)
            ):
                yield parent, name, layer


def _quantized(layer: Any, quantization: Quantization) -> Any:
    """Returns a linear layer with the same weights in fewer bits."""
    if quantization == "bitsandbytes_4bit":
        return _in_4_bits(layer)
    if quantization == "bitsandbytes_8bit":
        return _in_8_bits(layer)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_  # pyright: ignore[reportMissingImports]

    kinds: Any = {
        "int8_weight_only": Int8WeightOnlyConfig,
        "float8_weight_only": Float8WeightOnlyConfig,
    }
    # Its settings of the compiler would change the products of all models of the process.
    quantize_(layer, kinds[quantization](set_inductor_config=False))
    return layer


def _in_4_bits(layer: Any) -> Any:
    from bitsandbytes.nn import modules  # pyright: ignore[reportMissingImports]

    own: Any = modules
    kind = {"compress_statistics": False, "quant_type": "nf4"}
    empty = {"bias": False, "device": "meta"}
    shape = layer.in_features, layer.out_features
    made = own.Linear4bit(*shape, compute_dtype=layer.weight.dtype, **kind, **empty)
    # Some CPUs would round more, in a layout that not every shape has.
    made.support_avx512bf16_for_cpu = False
    made.weight = own.Params4bit(layer.weight.data, requires_grad=False, module=made, **kind)
    return _finished(made, layer)


def _in_8_bits(layer: Any) -> Any:
    from bitsandbytes.nn import modules  # pyright: ignore[reportMissingImports]

    own: Any = modules
    kind = {"has_fp16_weights": False}
    shape = layer.in_features, layer.out_features
    made = own.Linear8bitLt(*shape, bias=False, device="meta", threshold=6.0, **kind)
    made.weight = own.Int8Params(layer.weight.data.cpu(), requires_grad=False, **kind)
    return _finished(made, layer)


def _finished(made: Any, layer: Any) -> Any:
    """Returns a layer whose weights were quantised by moving them, with all else of another."""
    made.weight = made.weight.to(layer.weight.device)
    made.bias = layer.bias
    return made.train(layer.training)
