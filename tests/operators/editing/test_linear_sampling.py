"""Linear interpolation by products of matrices agrees with PyTorch's own."""

import pytest
import torch
from overpaint.operators.controls.linear_sampling import resized, sampled
from torch.nn import functional

FEATURE = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(5, 7), (10, 14), (3, 4), (9, 2), (1, 1)])
def test_resized_is_bilinear(size):
    wanted = functional.interpolate(FEATURE, size, mode="bilinear", align_corners=False)
    assert torch.allclose(resized(FEATURE, size), wanted, atol=1e-6)


def test_sampled_is_bilinear_with_edges_repeated():
    places = torch.tensor([[[[0.0, 0.0], [6.0, 4.0]], [[2.25, 3.5], [-3.0, 9.0]]]] * 2)
    grid = 2.0 * places / torch.tensor([6.0, 4.0]) - 1.0
    wanted = functional.grid_sample(
        FEATURE, grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    assert torch.allclose(sampled(FEATURE, places), wanted, atol=1e-5)
