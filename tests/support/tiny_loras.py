"""LoRAs with random weights, saved to folders as diffusers and PEFT write them."""

import diffusers
import torch

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def save_lora(checkpoint, kind, folder, seed=0):
    """Saves a LoRA with random weights as diffusers and PEFT write it."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline_kind = getattr(diffusers, kind)
    pipeline = pipeline_kind.from_pretrained(checkpoint)
    name = "unet" if kind.startswith("StableDiffusion") else "transformer"
    network = getattr(pipeline, name)
    network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=list(TARGETS)))
    generator = torch.Generator().manual_seed(seed)
    for key, weights in network.named_parameters():
        if "lora_" in key:
            weights.data = torch.randn(weights.shape, generator=generator)
    layers = get_peft_model_state_dict(network)
    pipeline_kind.save_lora_weights(folder, **{f"{name}_lora_layers": layers})
    return str(folder)
