"""Parts of a step: attention on a CPU, and operations on many tensors."""

import pytest
import torch
from overpaint.jobs.training.attention import cpu_attention_in_float32
from overpaint.jobs.training.foreach import copy_all, move_all, total_norm
from torch.nn import functional

CPU = torch.device("cpu")


def attention_inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 4, 64, 32).bfloat16().requires_grad_() for _ in range(3)]


def test_attention_is_computed_in_float32_and_has_the_type_of_the_queries() -> None:
    bias = torch.randn(2, 4, 64, 64).bfloat16()
    inputs = attention_inputs()
    exact = [tensor.detach().float().requires_grad_() for tensor in inputs]
    true = functional.scaled_dot_product_attention(*exact, attn_mask=bias.float())
    true.sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16), cpu_attention_in_float32(CPU):
        seen = functional.scaled_dot_product_attention(*inputs, attn_mask=bias)
    seen.sum().backward()
    assert torch.equal(seen, true.bfloat16())
    for tensor, other in zip(inputs, exact, strict=True):
        assert torch.equal(tensor.grad, other.grad.bfloat16())


def test_attention_takes_names_and_boolean_masks() -> None:
    query, key, value = attention_inputs()
    mask = torch.ones(64, 64, dtype=torch.bool).tril()
    with cpu_attention_in_float32(CPU):
        masked = functional.scaled_dot_product_attention(
            query=query, key=key, value=value, attn_mask=mask
        )
        causal = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(masked, causal, atol=1e-2)


def test_attention_stays_as_it_is_on_other_devices() -> None:
    inputs = attention_inputs()
    plain = functional.scaled_dot_product_attention(*inputs)
    with cpu_attention_in_float32(torch.device("cuda")):
        assert torch.equal(functional.scaled_dot_product_attention(*inputs), plain)


def test_operations_on_many_tensors_do_what_they_say() -> None:
    torch.manual_seed(0)
    sources, targets = ([torch.randn(3), torch.randn(2, 2)] for _ in range(2))
    flat = torch.cat([tensor.flatten() for tensor in sources])
    assert float(total_norm(sources)) == pytest.approx(float(flat.norm()))
    middle = [torch.lerp(a, b, 0.25) for a, b in zip(targets, sources, strict=True)]
    move_all(targets, sources, torch.tensor(0.25))
    assert all(torch.allclose(a, b) for a, b in zip(targets, middle, strict=True))
    copy_all(sources, targets)
    assert all(torch.equal(a, b) for a, b in zip(targets, sources, strict=True))
