"""A brush on latents: noise that is drawn anew, and a soft edge.

Shapes: b rows, c latent channels, h and w latent pixels.
"""

from typing import TYPE_CHECKING

from overpaint.operators.diffusion.schedule import Step

if TYPE_CHECKING:
    from torch import Tensor


def brushed(
    before_bchw: "Tensor", after_bchw: "Tensor", step: Step, new_bchw: "Tensor", share: float
) -> "Tensor":
    """Returns latents whose noise is in part new; their clean part stays.

    Args:
        before_bchw: latents of an inverted path before a step.
        after_bchw: latents of the path after it, which tell noise and clean part apart.
        step: the levels of both.
        new_bchw: new unit noise.
        share: share of the new noise in the variance.
    """
    signal, spread = step.alpha_bar**0.5, (1.0 - step.alpha_bar) ** 0.5
    signal_after, spread_after = step.alpha_bar_next**0.5, (1.0 - step.alpha_bar_next) ** 0.5
    # Both latents are made of the same clean part and noise; with the clean part gone:
    noise = (signal_after * before_bchw - signal * after_bchw) / (
        signal_after * spread - signal * spread_after
    )
    mixed = (1.0 - share) ** 0.5 * noise + share**0.5 * new_bchw
    return before_bchw + spread * (mixed - noise)


def feathered(mask_b1hw: "Tensor", share: float) -> "Tensor":
    """Returns masks blurred by a Gaussian.

    Args:
        mask_b1hw: masks, 0 to 1.
        share: standard deviation as a share of the masks' shorter side; 0 changes nothing.
    """
    import torch
    from torch.nn import functional

    std_px = share * min(mask_b1hw.shape[-2:])
    if std_px == 0.0:
        return mask_b1hw
    reach_px = max(1, round(3 * std_px))
    places = torch.arange(-reach_px, reach_px + 1, device=mask_b1hw.device, dtype=mask_b1hw.dtype)
    line = (-0.5 * (places / std_px).square()).exp()
    line = line / line.sum()
    padded = functional.pad(mask_b1hw, (reach_px,) * 4, mode="replicate")
    return functional.conv2d(
        functional.conv2d(padded, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1)
    )
