"""Losses of the checkpoints, each a function of modules and of a batch that is on their device.

They read no value from the device: a GPU then never waits for the host, and a step can be recorded
as a CUDA graph. Randomness comes from the device's default generator.

Shapes: n examples, 3 RGB channels, 4 latent channels, h and w pixels, y and x latent pixels, t
tokens, v tokens of the vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

NUM_TIMESTEPS = 1000
PROMPT_DROPOUT = 0.1
MIN_SNR_GAMMA = 5.0
MIN_SNR_END = 0.85
MIN_SNR_FADE = 0.02
_KL_WEIGHT = 1e-4
# An instruction, a source or both are dropped, each with this probability.
_CONDITIONING_DROPOUT = 0.05
# Latents have a standard deviation of about 1; a change leaks to neighbours by less than this.
_LEAST_CHANGE = 0.5
_LEAST_SHARE = 0.05
# Errors of a diffusion model, as a fraction of the latents' standard deviation.
_MOST_LATENT_NOISE = 0.25
_NOISED_SHARE = 0.7


def to_images(images_nhw3: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Converts RGB uint8 NHWC on any device to NCHW, -1 to 1."""
    return images_nhw3.permute(0, 3, 1, 2).to(dtype).div(127.5).sub(1.0)


def mirrored(images_n3hw: Tensor) -> Tensor:
    """Returns the images, each mirrored with probability 1/2."""
    chance = torch.rand(len(images_n3hw), device=images_n3hw.device)
    return torch.where((chance < 0.5)[:, None, None, None], images_n3hw.flip(3), images_n3hw)


def reconstruction_loss(decoded_n3hw: Tensor, images_n3hw: Tensor) -> Tensor:
    """Returns L1 + 4 MSE + half of the L1 of the gradients."""
    error = decoded_n3hw.float() - images_n3hw.float()
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 4.0 * (error**2).mean() + 0.5 * edges


def vae_loss(vae: Any, images_n3hw: Tensor) -> Tensor:
    """Returns the loss of reconstructing images, -1 to 1, with a small KL term."""
    moments = vae.quant_conv(vae.encoder(images_n3hw)).float()
    mean, log_variance = moments.chunk(2, dim=1)
    log_variance = log_variance.clamp(-30.0, 20.0)
    latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
    decoded = vae.decoder(vae.post_quant_conv(latents.to(images_n3hw.dtype)))
    kl = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).mean()
    return reconstruction_loss(decoded, images_n3hw) + _KL_WEIGHT * kl


def decoder_loss(vae: Any, images_n3hw: Tensor) -> Tensor:
    """Returns the loss of decoding latents with noise as large as a diffusion model's errors.

    Seven images in ten get noise, of 0 to 0.25 of the latents' standard deviation; the encoder is
    at rest.
    """
    with torch.no_grad():
        mean = vae.quant_conv(vae.encoder(images_n3hw)).chunk(2, dim=1)[0]
        deviation = 1.0 / vae.config.scaling_factor
        sizes = torch.rand(2, len(mean), 1, 1, 1, device=mean.device)
        size = torch.where(sizes[0] < _NOISED_SHARE, sizes[1] * _MOST_LATENT_NOISE * deviation, 0.0)
        latents = mean + (size * torch.randn_like(mean, dtype=torch.float32)).to(mean.dtype)
    return reconstruction_loss(vae.decoder(vae.post_quant_conv(latents)), images_n3hw)


def alphas_cumprod(*, zero_terminal_snr: bool, device: torch.device | str = "cpu") -> Tensor:
    """Returns alpha-bar of the timesteps of Stable Diffusion's schedule.

    Args:
        zero_terminal_snr: shift the schedule to end in pure noise (arXiv 2305.08891).
        device: device of the result.
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, device=device) ** 2
    alphas = torch.cumprod(1.0 - betas, 0)
    if not zero_terminal_snr:
        return alphas
    roots = alphas.sqrt()
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


class Noised(NamedTuple):
    """Latents after the forward diffusion process.

    Attributes:
        latents: noised latents N4YX.
        noise: noise N4YX that was added.
        timesteps: timestep of each example, N.
        alphas: alpha-bar of each example, N111.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    alphas: Tensor

    def velocity(self, latents_n4yx: Tensor) -> Tensor:
        """Returns v of the clean latents."""
        return self.alphas.sqrt() * self.noise - (1.0 - self.alphas).sqrt() * latents_n4yx


def add_noise(latents_n4yx: Tensor, alphas: Tensor) -> Noised:
    """Adds noise to latents at random timesteps.

    Args:
        latents_n4yx: clean latents.
        alphas: alpha-bar of each timestep.
    """
    timesteps = torch.randint(0, len(alphas), (len(latents_n4yx),), device=latents_n4yx.device)
    noise = torch.randn_like(latents_n4yx)
    own = alphas[timesteps][:, None, None, None]
    noised = own.sqrt() * latents_n4yx + (1.0 - own).sqrt() * noise
    return Noised(noised, noise, timesteps, own)


def drop_prompts(tokens_nt: Tensor, empty_t: Tensor) -> Tensor:
    """Returns prompts of which a tenth is empty, for classifier-free guidance."""
    chance = torch.rand(len(tokens_nt), 1, device=tokens_nt.device)
    return torch.where(chance < PROMPT_DROPOUT, empty_t, tokens_nt)


def plain_share(progress: float) -> float:
    """Returns the share of equal weights in the loss weights: 0, and 1 in the last part of a run.

    Args:
        progress: used fraction of the training's time, 0 to 1.
    """
    return min(1.0, max(0.0, (progress - MIN_SNR_END) / MIN_SNR_FADE))


def text_to_image_loss(
    unet: Any, text_encoder: Any, latents_n4yx: Tensor, tokens_nt: Tensor, plain: Tensor
) -> Tensor:
    """Returns the MSE of the predicted noise, weighted by min-SNR (arXiv 2303.09556).

    Args:
        unet: UNet that predicts noise.
        text_encoder: text encoder of the prompts.
        latents_n4yx: scaled latents, float32.
        tokens_nt: token ids of the prompts.
        plain: share of equal weights in the weights, a scalar from 0 (min-SNR) to 1.
    """
    alphas = alphas_cumprod(zero_terminal_snr=False, device=latents_n4yx.device)
    noised = add_noise(latents_n4yx, alphas)
    text_ntd = text_encoder(tokens_nt)[0]
    predicted = unet(noised.latents.to(unet.dtype), noised.timesteps, text_ntd).sample
    error = ((predicted.float() - noised.noise) ** 2).mean(dim=(1, 2, 3))
    snr = (noised.alphas / (1.0 - noised.alphas)).flatten()
    weights = snr.clamp(max=MIN_SNR_GAMMA) / snr
    return (torch.lerp(weights, torch.ones_like(weights), plain) * error).mean()


def change_weights(source_n4yx: Tensor, target_n4yx: Tensor) -> Tensor:
    """Returns loss weights N1YX of mean 1: half on the latents that change, half on the others.

    A small edited object then counts as much as a whole edited background, and so does a small
    region that is to stay.
    """
    change_n1yx = (target_n4yx - source_n4yx).abs().amax(dim=1, keepdim=True)
    return region_weights((change_n1yx > _LEAST_CHANGE).float())


def region_weights(region_n1yx: Tensor) -> Tensor:
    """Returns weights N1YX of mean 1: half inside a region, 0 or 1, and half outside."""
    share = region_n1yx.mean(dim=(1, 2, 3), keepdim=True)
    weights = region_n1yx / share.clamp(min=_LEAST_SHARE)
    weights = weights + (1.0 - region_n1yx) / (1.0 - share).clamp(min=_LEAST_SHARE)
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)


class EditBatch(NamedTuple):
    """Edits of a step of instruction.

    Attributes:
        sources: scaled latents N4YX, float32.
        targets: scaled latents N4YX, float32.
        tokens: token ids NT of the instructions.
        labels: task labels N, 0 for unknown; None for a UNet without labels.
    """

    sources: Tensor
    targets: Tensor
    tokens: Tensor
    labels: Tensor | None = None


def instruction_loss(
    unet: Any, text_encoder: Any, edits: EditBatch, empty_t: Tensor, scaling_factor: float
) -> Tensor:
    """Returns the MSE of the predicted v of edits, half of it where the latents change.

    The instruction, the source or both are dropped, each in 5 % of the examples.
    """
    sources, targets = edits.sources, edits.targets
    uniform = torch.rand(len(targets), device=targets.device)
    no_text = uniform < 2 * _CONDITIONING_DROPOUT
    no_image = (uniform >= _CONDITIONING_DROPOUT) & (uniform < 3 * _CONDITIONING_DROPOUT)
    shown = sources * (~no_image)[:, None, None, None] / scaling_factor
    text_ntd = text_encoder(torch.where(no_text[:, None], empty_t, edits.tokens))[0]
    noised = add_noise(targets, alphas_cumprod(zero_terminal_snr=True, device=targets.device))
    inputs = torch.cat([noised.latents, shown], dim=1).to(unet.dtype)
    predicted = unet(inputs, noised.timesteps, text_ntd, class_labels=edits.labels).sample
    error = (predicted.float() - noised.velocity(targets)) ** 2
    return (change_weights(sources, targets) * error).mean()


class FillBatch(NamedTuple):
    """Examples of a step of inpainting.

    Attributes:
        targets: scaled latents N4YX of the images to return, float32.
        shown: scaled latents N4YX of the masked images, float32.
        masks: masks N1YX, 1 where the image is to be filled, float32.
        tokens: token ids NT of the prompts.
        labels: task labels N, 0 for unknown.
        is_clean_outside: examples whose latents get noise inside the mask only, bool N.
    """

    targets: Tensor
    shown: Tensor
    masks: Tensor
    tokens: Tensor
    labels: Tensor
    is_clean_outside: Tensor


def inpainting_loss(unet: Any, text_encoder: Any, fills: FillBatch, empty_t: Tensor) -> Tensor:
    """Returns the MSE of the predicted v of filled images, half of it inside the masks.

    An example that is clean outside its mask counts there nothing, as in SmartBrush
    (arXiv 2212.05034).
    """
    targets, masks = fills.targets, fills.masks
    text_ntd = text_encoder(drop_prompts(fills.tokens, empty_t))[0]
    noised = add_noise(targets, alphas_cumprod(zero_terminal_snr=True, device=targets.device))
    is_clean = fills.is_clean_outside.float()[:, None, None, None] * (1.0 - masks)
    noisy = torch.lerp(noised.latents, targets, is_clean)
    inputs = torch.cat([noisy, masks, fills.shown], dim=1).to(unet.dtype)
    predicted = unet(inputs, noised.timesteps, text_ntd, class_labels=fills.labels).sample
    error = (predicted.float() - noised.velocity(targets)) ** 2
    return (region_weights(masks) * (1.0 - is_clean) * error).mean()


def caption_loss(caption: Any, images_n3hw: Tensor, tokens_nt: Tensor, padding: int) -> Tensor:
    """Returns the cross-entropy of each token of a caption, given image and tokens before it."""
    features = caption.vision_model(pixel_values=images_n3hw)[0]
    is_word_nt = tokens_nt.ne(padding)
    logits = caption.text_decoder(
        input_ids=tokens_nt[:, :-1],
        attention_mask=is_word_nt[:, :-1].long(),
        encoder_hidden_states=features,
        use_cache=False,
    ).logits
    labels = tokens_nt.masked_fill(~is_word_nt, -100)[:, 1:]
    return functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())


def clip_loss(clip: Any, images_n3hw: Tensor, tokens_nt: Tensor) -> Tensor:
    """Returns the symmetric cross-entropy (InfoNCE) over images and one caption each.

    Equal captions are no negatives of each other.
    """
    logits_nn = clip(input_ids=tokens_nt, pixel_values=images_n3hw).logits_per_image.float()
    is_same_nn = (tokens_nt[:, None] == tokens_nt[None]).all(-1)
    target = torch.arange(len(logits_nn), device=logits_nn.device)
    is_other_nn = target[:, None] != target[None]
    logits_nn = logits_nn.masked_fill(is_same_nn & is_other_nn, -1e4)
    by_image = functional.cross_entropy(logits_nn, target)
    return 0.5 * (by_image + functional.cross_entropy(logits_nn.T, target))


def clipseg_loss(clipseg: Any, images_n3hw: Tensor, tokens_nt: Tensor, masks_nhw: Tensor) -> Tensor:
    """Returns cross-entropy and Dice loss of the masks, 0 or 1, that phrases select.

    The forward pass is the model's, but with gradients for the clip inside it: features that were
    trained on captions alone hold too little about edges.
    """
    clip = clipseg.clip
    vision = clip.vision_model(pixel_values=images_n3hw, output_hidden_states=True)
    text = clip.get_text_features(tokens_nt).pooler_output
    layers = [vision.hidden_states[i + 1] for i in clipseg.config.extract_layers]
    logits = clipseg.decoder(layers, text).logits.float().reshape_as(masks_nhw)
    return mask_losses(logits[:, None], masks_nhw[:, None]).mean()


def mask_losses(logits_nkhw: Tensor, true_n1hw: Tensor) -> Tensor:
    """Returns cross-entropy plus half of the Dice loss of k proposals a mask, NK."""
    true_nkhw = true_n1hw.expand_as(logits_nkhw)
    cross_entropy_nk = functional.binary_cross_entropy_with_logits(
        logits_nkhw, true_nkhw, reduction="none"
    ).mean(dim=(2, 3))
    predicted_nkhw = logits_nkhw.sigmoid()
    intersection = (predicted_nkhw * true_nkhw).sum(dim=(2, 3))
    sizes = predicted_nkhw.sum(dim=(2, 3)) + true_nkhw.sum(dim=(2, 3))
    return cross_entropy_nk + 0.5 * (1.0 - (2.0 * intersection + 1.0) / (sizes + 1.0))
