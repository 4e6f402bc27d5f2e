"""Tiny random checkpoints of real transformers classes, saved once a session, and drawn sources."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from overpaint.pipeline.images import Picture, encode

WORDS = ("a", "the", "red", "blue", "circle", "square", "on", "make", "it", "with", "of", "photo")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Runs models as a worker does by default: sums by several threads depend on the batch."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def noise() -> Callable[..., bytes]:
    """Makes a source image of random pixels: seed, width, height."""

    def make(seed: int, width: int = 48, height: int = 40) -> bytes:
        rng = np.random.default_rng(seed)
        return encode(Picture(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))

    return make


@pytest.fixture(scope="session")
def captioner(tmp_path_factory) -> str:
    """The folder of a BLIP captioner with random weights."""
    return save_captioner(tmp_path_factory.mktemp("captioner"))


def save_captioner(folder: Path) -> str:
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    vocab = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = BertTokenizer(vocab=vocab, bos_token="[DEC]", model_max_length=24)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 2, "initializer_range": 1.0}
    text = {**size, "vocab_size": len(vocab), "encoder_hidden_size": 32, "bos_token_id": 5}
    text |= {"eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 24}
    vision = {**size, "image_size": 32, "patch_size": 8}
    config = BlipConfig(text_config=text, vision_config=vision)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    pixels = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(pixels, tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def clipseg(tmp_path_factory) -> str:
    """The folder of a CLIPSeg with random weights."""
    return save_clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(scope="session")
def sam(tmp_path_factory) -> str:
    """The folder of a SAM with random weights."""
    return save_sam(tmp_path_factory.mktemp("sam"))


def letter_tokenizer(max_tokens: int):
    """A CLIP tokenizer whose tokens are letters."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=max_tokens)


def clip_sizes(max_tokens: int) -> dict[str, dict[str, object]]:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    size |= {"num_hidden_layers": 3, "initializer_range": 0.5}
    text = {**size, "vocab_size": 54, "max_position_embeddings": max_tokens}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return {"text_config": text, "vision_config": {**size, "image_size": 32, "patch_size": 8}}


def save_clipseg(folder: Path) -> str:
    import torch
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        ViTImageProcessorPil,
    )

    torch.manual_seed(2)
    more = {"projection_dim": 16, "extract_layers": [1, 2], "reduce_dim": 16}
    more |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}
    config = CLIPSegConfig(**clip_sizes(24), **more, conditional_layer=0)
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    pixels = ViTImageProcessorPil(size={"height": 32, "width": 32})
    CLIPSegProcessor(pixels, letter_tokenizer(24)).save_pretrained(folder)
    return str(folder)


def save_sam(folder: Path) -> str:
    import torch
    from transformers import SamConfig, SamImageProcessorPil, SamModel, SamProcessor

    torch.manual_seed(3)
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64}
    vision |= {"image_size": 64, "patch_size": 8, "output_channels": 16, "window_size": 4}
    vision |= {"global_attn_indexes": [1], "num_pos_feats": 8, "initializer_range": 0.5}
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    mask = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    mask |= {"iou_head_hidden_dim": 16}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=mask)
    SamModel(config).save_pretrained(folder)
    pixels = SamImageProcessorPil(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 32},
        mask_pad_size={"height": 32, "width": 32},
    )
    SamProcessor(pixels).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> str:
    """The folder of a CLIP with random weights."""
    return save_clip(tmp_path_factory.mktemp("clip"))


def save_clip(folder: Path) -> str:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    torch.manual_seed(4)
    CLIPModel(CLIPConfig(**clip_sizes(24), projection_dim=16)).save_pretrained(folder)
    pixels = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(pixels, letter_tokenizer(24)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def owlvit(tmp_path_factory) -> str:
    """The folder of an OWL-ViT, which finds what words name, with random weights."""
    return save_owlvit(tmp_path_factory.mktemp("owlvit"))


def save_owlvit(folder: Path) -> str:
    import torch
    from transformers import (
        OwlViTConfig,
        OwlViTForObjectDetection,
        OwlViTImageProcessorPil,
        OwlViTProcessor,
    )

    torch.manual_seed(7)
    sizes = clip_sizes(16)
    config = OwlViTConfig(**sizes, projection_dim=32)
    OwlViTForObjectDetection(config).save_pretrained(folder)
    pixels = OwlViTImageProcessorPil(size={"height": 32, "width": 32})
    OwlViTProcessor(pixels, letter_tokenizer(16)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def judge(tmp_path_factory) -> str:
    """The folder of a LLaVA with random weights and a chat template."""
    return save_judge(tmp_path_factory.mktemp("judge"))


CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ ' ?' }}{% endfor %}"
)


def word_tokenizer():
    """A tokenizer whose tokens are words, with the special tokens of a chat model."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<image>", "<unk>"]
    factors = ["accuracy", "preservation", "quality", "realism", ":", "?"]
    vocab = {word: i for i, word in enumerate([*special, *WORDS, *factors, *map(str, range(11))])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def save_judge(folder: Path) -> str:
    import torch
    from transformers import (
        CLIPImageProcessorPil,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(5)
    tokenizer = word_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    size |= {"num_hidden_layers": 2, "initializer_range": 0.5}
    vision = {**size, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16}
    text = {**size, "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 64}
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=3,
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pixels = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = LlavaProcessor(
        pixels,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory) -> str:
    """The folder of a Llama with random weights and a chat template of plain texts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(6)
    folder, tokenizer = tmp_path_factory.mktemp("language_model"), word_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    size |= {"num_hidden_layers": 2, "num_key_value_heads": 2, "initializer_range": 0.5}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": len(tokenizer)}
    LlamaForCausalLM(LlamaConfig(**size, **ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
