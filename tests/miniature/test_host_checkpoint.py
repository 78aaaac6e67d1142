from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sd_imagereward.core.refl.single_file import VAE
from sd_imagereward.examples.miniature import networks
from sd_imagereward.examples.miniature.host_checkpoint import CLIP_IDS, CLIP_ROWS, host_pipeline, write_checkpoint
from sd_imagereward.examples.miniature.words import WORDS

pytest.importorskip("diffusers")
EMBEDDING = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
TEXT = "a red circle above a blue square"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random networks in the miniature's sizes."""
    import transformers

    torch.manual_seed(0)
    tokenizer, vocabulary = networks.clip_tokenizer()
    text_encoder = transformers.CLIPTextModel(networks.clip(vocabulary).config.text_config)
    made = networks.pipeline(networks.vae(), networks.unet(), text_encoder, tokenizer)
    folder = tmp_path_factory.mktemp("model")
    made.save_pretrained(folder)
    return folder


def test_the_second_block_of_each_level_changes_nothing(model: Path) -> None:
    from diffusers import UNet2DConditionModel

    ours, theirs = UNet2DConditionModel.from_pretrained(model / "unet"), host_pipeline(model).unet
    noise, states = torch.randn(2, 4, 8, 8), torch.randn(2, 77, networks.WIDTH)
    with torch.no_grad():
        assert torch.equal(theirs(noise, 500, states).sample, ours(noise, 500, states).sample)


def test_words_have_the_ids_of_clip(shared_data: Path) -> None:
    vocabulary = json.loads((shared_data / "clip-tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert {word: vocabulary[f"{word}</w>" if word in WORDS else word] for word in CLIP_IDS} == CLIP_IDS
    assert set(WORDS) < CLIP_IDS.keys()
    assert len(vocabulary) == CLIP_ROWS


def test_the_checkpoint_has_the_layers_of_stable_diffusion_1_and_reads_the_ids_of_clip(
    model: Path, tmp_path: Path
) -> None:
    pipeline = host_pipeline(model)
    own = pipeline.text_encoder.get_input_embeddings().weight
    tensors = load_file(write_checkpoint(pipeline, tmp_path / "made" / "miniature.safetensors"))
    ends = CLIP_IDS["<|startoftext|>"], CLIP_IDS["<|endoftext|>"]
    theirs = [ends[0], *(CLIP_IDS[word] for word in TEXT.split()), ends[1]]
    assert torch.equal(tensors[EMBEDDING][theirs], own[pipeline.tokenizer(TEXT).input_ids])
    assert tensors[EMBEDDING].count_nonzero(1).bool().sum() == len(CLIP_IDS)
    # The second level begins behind two blocks and a resize, which is what the names in a LoRA count on.
    assert len(tensors["model.diffusion_model.input_blocks.4.1.proj_in.weight"]) == 64
    assert f"{VAE}decoder.up.3.block.0.conv1.weight" in tensors
    assert pipeline.text_encoder.get_input_embeddings().weight is own
