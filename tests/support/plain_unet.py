"""A plain diffusers UNet whose attention a test computes, for one picture at a time."""

from functools import partial

import diffusers
import torch


def maps_of(attn, query, key):
    """Attention maps hqk."""
    return torch.softmax(query @ key.transpose(1, 2) * attn.scale, dim=-1)


def usual(name, attn, query, key, value):
    """Attention as it is."""
    return maps_of(attn, query, key) @ value


class PlainUNet:
    """Calls with a rule that returns the values hqd to which a layer attends."""

    def __init__(self, folder):
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(f"{folder}/unet").eval()
        self.unet.requires_grad_(False)
        self.rule, self.middle, self.seen = usual, None, None
        self.unet.mid_block.register_forward_hook(self._middle)
        for name, part in self.unet.named_modules():
            if name.endswith(("attn1", "attn2")):
                part.processor = partial(self._attend, name)

    def _middle(self, module, inputs, output):
        self.seen = output
        return self.middle

    def _attend(self, name, attn, hidden, encoder_hidden_states=None, *_, **__):
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        parts = (attn.to_q(hidden), attn.to_k(context), attn.to_v(context))
        read = self.rule(name, attn, *(attn.head_to_batch_dim(part) for part in parts))
        return attn.to_out[0](attn.batch_to_head_dim(read))

    @torch.no_grad()
    def __call__(self, latents, step, tokens, rule=usual, middle=None):
        self.rule, self.middle = rule, middle
        return self.unet(latents, step.timestep, tokens).sample


class Kept:
    """A rule that keeps the heads' queries, keys and values, and attention maps, by layer."""

    def __init__(self):
        self.parts, self.maps = {}, {}

    def __call__(self, name, attn, query, key, value):
        self.parts[name], self.maps[name] = (query, key, value), maps_of(attn, query, key)
        return self.maps[name] @ value


def ddim(latents, clean_eps, eps, step, sigma=0.0):
    """DDIM's step whose clean latents are by one prediction and whose noise is by another."""
    a, b = step.alpha_bar, step.alpha_bar_next
    x0 = (latents - (1 - a) ** 0.5 * clean_eps) / a**0.5
    return b**0.5 * x0 + (1 - b - sigma**2) ** 0.5 * eps


def inverted(latents, steps, predict):
    """DDIM's trajectory of clean latents, from noise on."""
    path = [latents]
    for step in reversed(steps):
        eps = predict(path[0], step)
        a, b = step.alpha_bar, step.alpha_bar_next
        x0 = (path[0] - (1 - b) ** 0.5 * eps) / b**0.5
        path.insert(0, a**0.5 * x0 + (1 - a) ** 0.5 * eps)
    return path


def inside(mask_hw, size=(8, 8)):
    """Places of a grid at least half inside a mask of latent pixels, flat."""
    return torch.nn.functional.adaptive_avg_pool2d(mask_hw[None, None], size).flatten() >= 0.5
