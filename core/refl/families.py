"""The families of models that ReFL tunes: one row for all that an adapter or a LoRA file must know of a family.

Data alone, without torch or a host. A new family is a row here and its tests: `tests/core/refl/test_families.py` walks the
table, `tests/hosts/comfyui` trains a tiny network of each row in the real host. (A family that diffusers draws without a
U-Net also needs a `Generator` that draws so.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Config = Mapping[str, "bool | str"]
"""Settings of a network by which a family is known: a text must be equal, True and False ask whether anything is set."""


@dataclass(frozen=True)
class LoraLayers:
    """Which layers of a network a LoRA may change, by the names that its files give them."""

    # Layers of transformer blocks have one of these in their name; `linear` takes every linear layer of them.
    blocks: tuple[str, ...]
    attention: tuple[str, ...]  # endings of the layers in them that `attention` takes
    # Files have the names of the original program, which ComfyUI keeps; False: those of diffusers.
    original_names: bool = True


class Base(NamedTuple):
    """What the metadata of a LoRA says of the model it was trained on."""

    kohya: str  # `ss_base_model_version`, by which A1111 and Forge decide where they show the file
    modelspec: str  # `modelspec.architecture`, https://github.com/Stability-AI/ModelSpec
    v2: bool = False  # `ss_v2`: an SD2


class TextEncoder(NamedTuple):
    part: str  # the pipeline's attribute
    prefix: str  # what its keys begin with in a single-file checkpoint
    open_clip: bool = False  # a tower in OpenCLIP's layout in that file; else in that of transformers


@dataclass(frozen=True)
class DiffusersFamily:
    """How diffusers knows the family."""

    pipeline: str  # the class, in `diffusers`
    unet: Config
    text_encoders: tuple[TextEncoder, ...]
    pooled: bool = False  # the U-Net also reads a pooled embedding of the prompt, and the picture's size and crop
    # An empty tensor of this name says in a single file that the model predicts velocity; "": its weights say it.
    velocity_key: str = ""


@dataclass(frozen=True)
class ComfyFamily:
    """How ComfyUI knows the family."""

    model: str  # the class, in `comfy.model_base`
    # (module, class) of the blocks that gradient checkpointing recomputes; those that a ComfyUI lacks are passed
    # over.
    blocks: tuple[tuple[str, str], ...]
    descendants: bool = False  # classes derived from it are the same family, too
    unet: Config | None = None  # settings that must hold besides, as `unet_config` has them
    # The blocks work in place or with kernels that have no gradient, and are covered in training.
    in_place: bool = False


@dataclass(frozen=True)
class Family:
    name: str  # in code, in settings and in the log
    title: str  # for people
    resolution: int  # side of the pictures it was trained on, in pixels
    # Classifier-free guidance that people draw with. Sources: the default of the family's pipeline in diffusers; for Flux.1,
    # whose guidance is distilled into the network, ComfyUI's own workflows (cfg 1).
    guidance: float
    layers: LoraLayers
    base: Base
    # In place of `base` for models that predict velocity, where files tell them apart.
    velocity_base: Base | None = None
    # Rectified flow: noise level s mixes (1 - s) * x0 + s * noise. Else diffusion: x0 + sigma * noise.
    flow: bool = False
    experimental: bool = False
    diffusers: DiffusersFamily | None = None
    comfyui: ComfyFamily | None = None

    def base_of(self, v_prediction: bool) -> Base:
        return self.velocity_base if v_prediction and self.velocity_base is not None else self.base

    def signal_to_noise(self, level: float) -> float:
        """alpha^2 / sigma^2 at a noise level as ComfyUI counts them (see `flow`)."""
        return ((1 - level) / level) ** 2 if self.flow else level**-2


UNET_LAYERS = LoraLayers(
    blocks=("attentions.",), attention=(".to_q", ".to_k", ".to_v", ".to_out.0"), original_names=False
)
_UNET_BLOCKS = (
    ("comfy.ldm.modules.diffusionmodules.openaimodel", "ResBlock"),
    ("comfy.ldm.modules.attention", "BasicTransformerBlock"),
)
_FLUX_BLOCKS = (("comfy.ldm.flux.layers", "DoubleStreamBlock"), ("comfy.ldm.flux.layers", "SingleStreamBlock"))

_ROWS = (
    Family(
        name="sd1",
        title="SD1.x",
        resolution=512,
        guidance=7.5,
        layers=UNET_LAYERS,
        base=Base("sd_v1", "stable-diffusion-v1/lora"),
        diffusers=DiffusersFamily(
            pipeline="StableDiffusionPipeline",
            unet={"addition_embed_type": False, "use_linear_projection": False},
            text_encoders=(TextEncoder("text_encoder", "cond_stage_model.transformer."),),
        ),
        comfyui=ComfyFamily(
            model="BaseModel",
            unet={"context_dim": True, "use_linear_in_transformer": False},
            blocks=_UNET_BLOCKS,
        ),
    ),
    Family(
        name="sd2",
        title="SD2.x",
        resolution=768,
        guidance=7.5,
        layers=UNET_LAYERS,
        base=Base("sd_v2", "stable-diffusion-v2-512/lora", v2=True),
        velocity_base=Base("sd_v2_v", "stable-diffusion-v2-768-v/lora", v2=True),
        diffusers=DiffusersFamily(
            pipeline="StableDiffusionPipeline",
            unet={"addition_embed_type": False, "use_linear_projection": True},
            text_encoders=(TextEncoder("text_encoder", "cond_stage_model.model.", open_clip=True),),
        ),
        comfyui=ComfyFamily(
            model="BaseModel",
            unet={"context_dim": True, "use_linear_in_transformer": True},
            blocks=_UNET_BLOCKS,
        ),
    ),
    Family(
        name="sdxl",
        title="SDXL",
        resolution=1024,
        guidance=5.0,
        layers=UNET_LAYERS,
        base=Base("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
        diffusers=DiffusersFamily(
            pipeline="StableDiffusionXLPipeline",
            unet={"addition_embed_type": "text_time"},
            text_encoders=(
                TextEncoder("text_encoder", "conditioner.embedders.0.transformer."),
                TextEncoder("text_encoder_2", "conditioner.embedders.1.model.", open_clip=True),
            ),
            pooled=True,
            velocity_key="v_pred",  # by which A1111 and ComfyUI know; of an SD2 they look at the weights
        ),
        comfyui=ComfyFamily(model="SDXL", descendants=True, blocks=_UNET_BLOCKS),
    ),
    Family(
        name="sd3",
        title="SD3",
        resolution=1024,
        guidance=7.0,
        layers=LoraLayers(  # joint attention holds queries, keys and values in one layer
            blocks=("joint_blocks.",), attention=("attn.qkv", "attn.proj", "attn2.qkv", "attn2.proj")
        ),
        base=Base("sd3", "stable-diffusion-3/lora"),
        flow=True,
        experimental=True,
        comfyui=ComfyFamily(model="SD3", blocks=(("comfy.ldm.modules.diffusionmodules.mmdit", "JointBlock"),)),
    ),
    Family(
        name="flux",
        title="Flux.1",
        resolution=1024,
        guidance=1.0,
        layers=LoraLayers(  # a single block's attention and MLP share two layers
            blocks=("double_blocks.", "single_blocks."), attention=("attn.qkv", "attn.proj", ".linear1", ".linear2")
        ),
        base=Base("flux1", "flux-1/lora"),
        flow=True,
        experimental=True,
        # not its descendants (Chroma, Flux.2, ...), which sample in other ways
        comfyui=ComfyFamily(model="Flux", blocks=_FLUX_BLOCKS, in_place=True),
    ),
)
FAMILIES: dict[str, Family] = {row.name: row for row in _ROWS}


def fits(config: Mapping[str, Any], expected: Config) -> bool:
    """Whether a network's settings are those of a family; a setting that is not there counts as not set."""
    return all(
        config.get(key) == value if isinstance(value, str) else bool(config.get(key)) == value
        for key, value in expected.items()
    )


def in_words(families: Iterable[Family], last: str = "or") -> str:
    """ "SD1.x, SD2.x or SDXL"."""
    *most, end = (family.title for family in families)
    return f"{', '.join(most)} {last} {end}" if most else end


def resolutions_in_words() -> str:
    """ "512 for SD1.x, 768 for SD2.x, 1024 for SDXL, SD3 and Flux.1"."""
    return _each_in_words(lambda row: row.resolution)


def guidances_in_words() -> str:
    """ "7.5 for SD1.x and SD2.x, 5 for SDXL, 7 for SD3, 1 for Flux.1"."""
    return _each_in_words(lambda row: row.guidance)


def _each_in_words(value_of: Callable[[Family], float]) -> str:
    rows = FAMILIES.values()
    values = dict.fromkeys(map(value_of, rows))
    return ", ".join(
        f"{value:g} for {in_words((row for row in rows if value_of(row) == value), 'and')}" for value in values
    )


DIFFUSERS_TITLES = in_words(row for row in FAMILIES.values() if row.diffusers is not None)
FLOW_TITLES = in_words((row for row in FAMILIES.values() if row.flow), "and")
COMFYUI_TITLES = in_words(row for row in FAMILIES.values() if row.comfyui is not None)
