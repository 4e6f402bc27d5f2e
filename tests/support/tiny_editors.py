"""Tiny checkpoints of diffusers' transformer editors with random weights, saved to folders."""

import json
from pathlib import Path

import torch

SIDE_PX = 64
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>", "<think>", "</think>"),
)
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer():
    """A tokenizer of the Qwen family whose tokens are bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    tokens = [*sorted(ByteLevel.alphabet()), *_SPECIAL]
    vocab = {token: place for place, token in enumerate(tokens)}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], model_max_length=4096)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def flow_scheduler(**values):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **values)


def flat_vae(kind="AutoencoderKL", latent_channels=4, **options):
    """A VAE of two levels: a latent pixel is 2 x 2 pixels."""
    import diffusers

    return getattr(diffusers, kind)(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=SIDE_PX,
        mid_block_add_attention=False,
        **options,
    )


def save_klein(folder, kind="Flux2KleinPipeline", is_distilled=True):
    import diffusers
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    tokens = qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokens),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
        initializer_range=0.5,
        max_position_embeddings=512,
    )
    vae = flat_vae("AutoencoderKLFlux2", use_quant_conv=False, use_post_quant_conv=False)
    vae.bn.running_mean.uniform_(-0.1, 0.1)
    vae.bn.running_var.uniform_(0.5, 1.5)
    getattr(diffusers, kind)(
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(config),
        tokenizer=tokens,
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        is_distilled=is_distilled,
    ).save_pretrained(folder)
    return str(folder)


def seeing_text_encoder(num_tokens, hidden_size=16):
    """A Qwen2.5-VL."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokens = {f"{name}_token_id": num_tokens[name] for name in num_tokens if name != "size"}
    text = {
        "vocab_size": num_tokens["size"],
        "hidden_size": hidden_size,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "initializer_range": 0.5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [1, 1, 2],
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": hidden_size,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.5,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
    return Qwen2_5_VLForConditionalGeneration(config)


def _seeing_parts():
    """A tokenizer, a processor without videos and a text encoder that sees pictures."""
    from overpaint.operators.models.picture_processors import without_videos
    from transformers import Qwen2VLImageProcessorPil

    tokens = qwen_tokenizer()
    numbers = {
        name: tokens.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in {
            "vision_start": "vision_start",
            "vision_end": "vision_end",
            "image": "image_pad",
            "video": "video_pad",
        }.items()
    }
    processor = without_videos("Qwen2VLProcessor", Qwen2VLImageProcessorPil(), tokens)
    return tokens, processor, seeing_text_encoder({**numbers, "size": len(tokens)})


def save_longcat(folder):
    import diffusers

    torch.manual_seed(0)
    tokens, processor, encoder = _seeing_parts()
    diffusers.LongCatImageEditPipeline(
        scheduler=flow_scheduler(),
        vae=flat_vae(latent_channels=16, scaling_factor=0.5, shift_factor=0.1),
        text_encoder=encoder,
        tokenizer=tokens,
        text_processor=processor,
        transformer=diffusers.LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return _as_published(folder, "text_processor")


def save_qwen(folder, kind="QwenImageEditPlusPipeline"):
    import diffusers

    torch.manual_seed(0)
    tokens, processor, encoder = _seeing_parts()
    is_editor = kind.startswith("QwenImageEdit")
    getattr(diffusers, kind)(
        scheduler=flow_scheduler(shift_terminal=0.02),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.1] * 4,
            latents_std=[0.9] * 4,
        ),
        text_encoder=encoder,
        tokenizer=tokens,
        **({"processor": processor} if is_editor else {}),
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    ).save_pretrained(folder)
    return _as_published(folder, "processor") if is_editor else str(folder)


def _as_published(folder, name, kind="Qwen2VLProcessor"):
    """Names the class of a processor in the index as published checkpoints do."""
    index = Path(folder) / "model_index.json"
    parts = json.loads(index.read_text())
    parts[name] = ["transformers", kind]
    index.write_text(json.dumps(parts))
    return str(folder)


def save_flux(folder, kind="FluxFillPipeline"):
    """A FLUX.1 of the inpainting kinds; Fill sees the mask and the source beside the latents."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: place for place, word in enumerate(words)}
    tokens = transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=16)
    clip = transformers.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
    )
    t5 = transformers.T5Config(
        vocab_size=len(tokens), d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2
    )
    getattr(diffusers, kind)(
        scheduler=flow_scheduler(),
        vae=flat_vae(scaling_factor=0.5, shift_factor=0.1),
        text_encoder=transformers.CLIPTextModel(clip),
        tokenizer=tokens,
        text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer_2=tokens,
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=48 if kind == "FluxFillPipeline" else 16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    ).save_pretrained(folder)
    return str(folder)


def _parts_of_qwen3():
    """A tokenizer, a processor without videos and a Qwen3-VL."""
    from overpaint.operators.models.picture_processors import without_videos
    from transformers import (
        Qwen2VLImageProcessorPil,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    tokens = qwen_tokenizer()
    size = {"min_pixels": 32 * 32, "max_pixels": 256 * 256, "patch_size": 16}
    processor = without_videos("Qwen3VLProcessor", Qwen2VLImageProcessorPil(**size), tokens)
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [1, 1, 2],
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
        "initializer_range": 0.5,
    }
    names = {
        "vision_start": "vision_start",
        "vision_end": "vision_end",
        "image": "image_pad",
        "video": "video_pad",
    }
    numbers = {
        f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in names.items()
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **numbers)
    return tokens, processor, Qwen3VLForConditionalGeneration(config)


def save_joy(folder, kind="JoyImageEditPlusPipeline"):
    import diffusers

    torch.manual_seed(0)
    tokens, processor, encoder = _parts_of_qwen3()
    plus = "Plus" if kind == "JoyImageEditPlusPipeline" else ""
    transformer = getattr(diffusers, f"JoyImageEdit{plus}Transformer3DModel")
    getattr(diffusers, kind)(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKLWan(
            base_dim=4,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        text_encoder=encoder,
        tokenizer=tokens,
        processor=processor,
        transformer=transformer(
            patch_size=[1, 2, 2],
            in_channels=16,
            hidden_size=32,
            num_attention_heads=2,
            text_dim=16,
            num_layers=1,
            rope_dim_list=[4, 6, 6],
        ),
    ).save_pretrained(folder)
    return _as_published(folder, "processor", "Qwen3VLProcessor")


def save_qwen21(folder):
    import diffusers

    torch.manual_seed(0)
    _, processor, encoder = _parts_of_qwen3()
    diffusers.QwenImage21Pipeline(
        scheduler=flow_scheduler(),
        vae=diffusers.AutoencoderKLQwenImage21(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=8,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.1] * 8,
            latents_std=[0.9] * 8,
        ),
        text_encoder=encoder,
        processor=processor,
        transformer=diffusers.QwenImage21Transformer2DModel(
            in_channels=8,
            out_channels=8,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    ).save_pretrained(folder)
    return _as_published(folder, "processor", "Qwen3VLProcessor")


def save_flux2(folder):
    import diffusers
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    torch.manual_seed(0)
    tokens = qwen_tokenizer()
    text = {
        "model_type": "mistral",
        "vocab_size": len(tokens),
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 31,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "initializer_range": 0.5,
        "max_position_embeddings": 512,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 4,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=5)
    diffusers.Flux2Pipeline(
        scheduler=flow_scheduler(),
        vae=flat_vae("AutoencoderKLFlux2", use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=tokens,
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=True,
        ),
    ).save_pretrained(folder)
    return str(folder)


def shrink_pictures(patch, kind):
    """Makes pipelines encode pictures at 64 x 64 that do so at one megapixel.

    Args:
        patch: a pytest.MonkeyPatch.
        kind: class of the pipeline.
    """
    area = SIDE_PX**2
    if kind.startswith("Joy"):
        from diffusers.pipelines.joyimage import image_processor

        patch.setattr(image_processor, "find_best_bucket", lambda *_: (SIDE_PX, SIDE_PX))
    elif kind == "QwenImageEditPlusPipeline":
        from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as several

        patch.setattr(several, "VAE_IMAGE_SIZE", area)
        patch.setattr(several, "CONDITION_IMAGE_SIZE", area)
    elif kind.startswith("QwenImage") and kind != "QwenImagePipeline":
        import sys

        import diffusers

        module = sys.modules[getattr(diffusers, kind).__module__]
        compute = module.calculate_dimensions
        patch.setattr(module, "calculate_dimensions", lambda _, ratio: compute(area, ratio))


SAVERS = {
    "Flux2Pipeline": save_flux2,
    "QwenImage21Pipeline": save_qwen21,
    "JoyImageEditPipeline": lambda folder: save_joy(folder, "JoyImageEditPipeline"),
    "JoyImageEditPlusPipeline": save_joy,
    "Flux2KleinPipeline": save_klein,
    "Flux2KleinKVPipeline": lambda folder: save_klein(folder, "Flux2KleinKVPipeline"),
    "Flux2KleinInpaintPipeline": lambda folder: save_klein(folder, "Flux2KleinInpaintPipeline"),
    "LongCatImageEditPipeline": save_longcat,
    "QwenImageEditPlusPipeline": save_qwen,
    "QwenImageEditPipeline": lambda folder: save_qwen(folder, "QwenImageEditPipeline"),
    "QwenImageEditInpaintPipeline": lambda folder: save_qwen(
        folder, "QwenImageEditInpaintPipeline"
    ),
    "FluxFillPipeline": save_flux,
    "FluxPipeline": lambda folder: save_flux(folder, "FluxPipeline"),
    "QwenImagePipeline": lambda folder: save_qwen(folder, "QwenImagePipeline"),
    "FluxKontextInpaintPipeline": lambda folder: save_flux(folder, "FluxKontextInpaintPipeline"),
}
"""Makers of checkpoints by the class of the pipeline; each takes a folder and returns its path."""
