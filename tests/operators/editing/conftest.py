"""Tiny checkpoints of the real classes with random weights, and rows to edit."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_editors import SAVERS, shrink_pictures

SIDE_PX = 32
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer(max_tokens=16):
    from transformers import CLIPTokenizer

    tokens = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=max_tokens)


def text_encoder(tokens, kind="CLIPTextModel", hidden_size=16):
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=hidden_size,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokens.model_max_length,
        projection_dim=hidden_size,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    return getattr(transformers, kind)(config)


def vae(**options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE_PX,
        mid_block_add_attention=False,
        scaling_factor=0.5,
        **options,
    )


def unet(in_channels=4, cross_attention_dim=16, **options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE_PX // 2,
        in_channels=in_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=2,
        norm_num_groups=4,
        **options,
    )


def scheduler():
    """Stable Diffusion 1.5's own: a PNDMScheduler."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )


def save_stable_diffusion(folder, kind="StableDiffusionPipeline", in_channels=4, **options):
    import diffusers

    torch.manual_seed(0)
    tokens = tokenizer()
    pipeline = getattr(diffusers, kind)(
        vae=vae(),
        text_encoder=text_encoder(tokens),
        tokenizer=tokens,
        unet=unet(in_channels),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, **options)
    return str(folder)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """As the runner does for an operator with `num_threads = 1`."""
    torch.set_num_threads(1)


@pytest.fixture
def save_checkpoint():
    return save_stable_diffusion


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def picture(number, height=SIDE_PX, width=SIDE_PX, channels=3):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def make_row(number, height=SIDE_PX, width=SIDE_PX, **columns):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    return {
        "source_image": png(picture(number, height, width)),
        "width_px": width,
        "height_px": height,
        "source_prompt": f"source {'abc'[number % 3]}",
        "caption": None,
        "target_prompt": f"target {'xyz'[number % 3]}",
        "instruction": f"make it {'xyz'[number % 3]}",
        "mask_image": png(mask),
        "strength_map_image": png(picture(50 + number, height, width)[..., 0] | 128),
        "reference_images": [png(picture(80 + number, 24, 40))],
        "reference_mask_image": png(picture(90 + number, 24, 40)[..., 0]),
        "mask_phrase": "abc"[number % 3],
        "points": [[width / 3, height / 3, width / 3 + 2 + number, height / 3 + 4]],
        "boxes": [{"label": "xyz"[number % 3], "box": [8.0, 8.0, 24.0, 20.0 + number]}],
        "strokes_image": png(picture(50 + number, height, width)),
        "edit_concepts": [
            {
                "prompt": f"{'ghi'[number % 3]} {'jkl'[number // 3 % 3]}",
                "guidance_scale": 2.0 + number,
            },
            {"prompt": f"{'mno'[number % 3]} {'pqr'[number // 3 % 3]}", "reverse": True},
        ],
        "seed": 100 + number,
        "image_format": "png",
        **columns,
    }


@pytest.fixture
def row():
    return make_row


def save_kontext(folder):
    import diffusers
    import transformers

    torch.manual_seed(0)
    tokens = tokenizer()
    t5 = transformers.T5Config(
        vocab_size=len(tokens), d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2
    )
    diffusers.FluxKontextPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(shift_factor=0.1),
        text_encoder=text_encoder(tokens),
        tokenizer=tokens,
        text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer_2=tokens,
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
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


def save_xl(folder, kind="StableDiffusionXLPipeline", in_channels=4):
    import diffusers

    torch.manual_seed(0)
    tokens = tokenizer()
    second = text_encoder(tokens, "CLIPTextModelWithProjection", 24)
    getattr(diffusers, kind)(
        vae=vae(),
        text_encoder=text_encoder(tokens),
        text_encoder_2=second,
        tokenizer=tokens,
        tokenizer_2=tokens,
        unet=unet(
            in_channels,
            cross_attention_dim=40,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        ),
        scheduler=scheduler(),
    ).save_pretrained(folder)
    return str(folder)


def save_kandinsky(folder):
    import diffusers
    import transformers

    torch.manual_seed(0)
    tokens = tokenizer()
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE_PX,
        patch_size=8,
        projection_dim=16,
    )
    size = {"height": SIDE_PX, "width": SIDE_PX}
    prior = diffusers.PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        embedding_dim=16,
        num_embeddings=tokens.model_max_length,
    )
    torch.nn.init.uniform_(prior.clip_mean, -0.1, 0.1)
    torch.nn.init.uniform_(prior.clip_std, 0.5, 1.5)
    diffusers.KandinskyV22CombinedPipeline(
        unet=unet(
            out_channels=8,
            addition_embed_type="image",
            encoder_hid_dim=16,
            encoder_hid_dim_type="image_proj",
        ),
        scheduler=diffusers.DDPMScheduler(
            beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
        ),
        movq=diffusers.VQModel(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=4,
            vq_embed_dim=4,
            norm_num_groups=4,
            mid_block_add_attention=False,
        ),
        prior_prior=prior,
        prior_image_encoder=transformers.CLIPVisionModelWithProjection(vision),
        prior_text_encoder=text_encoder(tokens, "CLIPTextModelWithProjection"),
        prior_tokenizer=tokens,
        prior_scheduler=diffusers.UnCLIPScheduler(
            prediction_type="sample", clip_sample=True, clip_sample_range=5.0
        ),
        prior_image_processor=transformers.CLIPImageProcessorPil(size=size, crop_size=size),
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory):
    """From the name of a pipeline to the folder of a tiny checkpoint, made once."""
    makers = {
        "StableDiffusionPipeline": save_stable_diffusion,
        "StableDiffusionXLPipeline": save_xl,
        "FluxKontextPipeline": save_kontext,
        "KandinskyV22CombinedPipeline": save_kandinsky,
        **SAVERS,
    }
    for name, channels in (("Inpaint", 9), ("InstructPix2Pix", 8)):
        for base, save in (("", save_stable_diffusion), ("XL", save_xl)):
            kind = f"StableDiffusion{base}{name}Pipeline"
            makers[kind] = partial(save, kind=kind, in_channels=channels)
    made = {}

    patch = pytest.MonkeyPatch()

    def find(name):
        if name not in makers:
            pytest.skip(f"no tiny {name} can be made: its processor is only on the hub")
        if name not in made:
            shrink_pictures(patch, name)
            made[name] = makers[name](tmp_path_factory.mktemp(name))
        return made[name]

    yield find
    patch.undo()
