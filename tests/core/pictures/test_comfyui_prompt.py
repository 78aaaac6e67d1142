"""ComfyUI graphs as people build them: each case is a graph with one thing that must not lead to another prompt."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from sd_imagereward.core.pictures.comfyui_prompt import Found, read_graph, read_workflow

FOX, NO = "a red fox in deep snow", "blurry, lowres"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sampler(
    positive: Any = ("6", 0), negative: Any = ("7", 0), latent: Any = ("5", 0), **inputs: Any
) -> dict[str, Any]:
    links = {"model": ["4", 0], "positive": list(positive), "negative": list(negative), "latent_image": list(latent)}
    return node("KSampler", **links, seed=1, steps=20, cfg=7.0, denoise=1.0, **inputs)


def encoder(text: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", text=text, clip=["4", 1])


def graph(**changes: dict[str, Any]) -> Found:
    nodes = {
        "3": sampler(),
        "4": node("CheckpointLoaderSimple", ckpt_name="paintmix.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "6": encoder(FOX),
        "7": encoder(NO),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }
    found = read_graph(nodes | {key.lstrip("n"): value for key, value in changes.items()})
    assert found is not None
    return found


def text(held: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    """The encoder given its text by node 11."""
    return {"n6": encoder(["11", 0]), "n11": held, **others}


PARTS = {"n12": node("PrimitiveString", value="a red fox"), "n13": node("PrimitiveString", value="in deep snow")}
TWO = {"n12": encoder("a green parrot"), "n6": encoder(FOX), "n3": sampler(positive=("11", 0))}
TWO_TEXTS = {"n12": node("PrimitiveString", value="a green parrot"), "n13": node("PrimitiveString", value=FOX)}

FOUND = {
    # text comes through nodes of any name
    "easy a1111Loader": {
        "n1": node("easy a1111Loader", ckpt_name="x", positive=FOX, negative=NO),
        "n2": node("easy preSampling", pipe=["1", 0], steps=20),
        "n3": node("easy kSampler", pipe=["2", 0], image_output="Hide"),
        "n8": node("Reroute", **{"": ["3", 1]}),
    },
    "Efficient Loader": {
        "n1": node("Efficient Loader", ckpt_name="x", lora_name="None", positive=FOX, negative=NO),
        "n3": node("KSampler (Efficient)", model=["1", 0], positive=["1", 1], negative=["1", 2], latent_image=["1", 3]),
        "n8": node("X", image=["3", 5]),
    },
    "basic pipe": {
        "n1": node("ToBasicPipe", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0]),
        "n3": node("ImpactKSamplerBasicPipe", basic_pipe=["1", 0], latent_image=["5", 0], steps=20),
    },
    "a pipe with what was drawn": {
        "n1": node(
            "MakeBasicPipe //Inspire",
            positive_wildcard_text="a {grey|red} fox",
            positive_populated_text=FOX,
            negative_populated_text=NO,
        ),
        "n3": node("KSamplerPipe //Inspire", basic_pipe=["1", 0], latent=["5", 0], steps=20),
    },
    "samplers as providers": {
        "n1": node("ToBasicPipe", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0]),
        "n2": node("KSamplerAdvancedProvider", basic_pipe=["1", 0], cfg=7.0),
        "n3": node("TwoAdvancedSamplersForMask", samples=["5", 0], base_sampler=["2", 0], mask=["99", 0]),
    },
    "a sampler whose name reads like one of a bundle": {
        "n1": node("ToBasicPipe", model=["4", 0], clip=["4", 1], vae=["4", 2], positive=["6", 0], negative=["7", 0]),
        "n3": node("CustomSamplerPipe", basic_pipe=["1", 0], latent_image=["5", 0]),
    },
    "context": {
        "n1": node("Context Big (rgthree)", model=["4", 0], positive=["6", 0], negative=["7", 0], latent=["5", 0]),
        "n3": sampler(positive=("1", 4), negative=("1", 5), latent=("1", 6)),
    },
    "guider": {
        "n3": node("SamplerCustomAdvanced", noise=["1", 0], guider=["2", 0], sampler=["x", 0], latent_image=["5", 0]),
        "n2": node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=4.0),
    },
    "Any Switch (rgthree)": text(
        node("Any Switch (rgthree)", any_02=["12", 0]), n12=node("PrimitiveString", value=FOX)
    ),
    "an unknown node between": text(node("Frobnicate", whatever=["12", 0], level=3), n12=node("Str", value=FOX)),
    "an unknown node with a text": text(node("Frobnicate", zork=FOX, path="/a/b.txt", on="enable")),
    "show text": text(node("ShowText|pysssss", text=["12", 0], text_0="of an earlier run"), n12=node("Str", value=FOX)),
    "Lumina 2": {"n6": node("CLIPTextEncodeLumina2", system_prompt="superior", user_prompt=FOX, clip=["4", 1])},
    "Qwen edit": {"n6": node("TextEncodeQwenImageEditPlus", prompt=FOX, clip=["4", 1], image1=["99", 0])},
    # joined as the node joins
    "JoinStringMulti": text(
        node("JoinStringMulti", inputcount=2, string_2=["13", 0], string_1=["12", 0], delimiter=" "), **PARTS
    ),
    "a delimiter of nothing": text(
        node("StringConcatenate", string_a="a red fox ", string_b="in deep snow", delimiter="")
    ),
    "a named delimiter": text(node("JPS Text", delimiter="space", text1=["12", 0], text2=["13", 0]), **PARTS),
    "prefix": text(node("AddPrefix", prefix="a red", text="fox in deep snow", separator=" ")),
    "replaced": text(node("StringReplace", string="a grey fox in deep snow", find="grey", replace="red")),
    "replaced by what others hold": text(
        node("easy promptReplace", prompt=["12", 0], find1="{x}", replace1=["13", 0], find2="", replace2=""),
        n12=node("PrimitiveString", value="a {x} fox in deep snow"),
        n13=node("PrimitiveString", value="red"),
    ),
    "replaced by action": text(
        node("StringFunction|pysssss", action="replace", text_a="a grey fox in deep snow", text_b="grey", text_c="red")
    ),
    "a template": text(node("StringFormat", template="{a} {b}", a=["12", 0], b=["13", 0]), **PARTS),
    "an older Text Concatenate": text(
        node("Text Concatenate", linebreak_addition="false", text_a="a red fox ", text_b=["13", 0]), **PARTS
    ),
    "joined with nothing": text(
        node("Text Concatenate", delimiter=" ", text_a=["12", 0], text_b=["13", 0]),
        n12=node("PrimitiveString", value=FOX),
        n13=node("Text Multiline", text=""),
    ),
    "no style": text(node("SDXLPromptStyler", text_positive=FOX, text_negative="", style="base")),
    # what was drawn, not what it was drawn from; sentences, not tags
    "ImpactWildcardEncode": {
        "n6": node(
            "ImpactWildcardEncode",
            clip=["4", 1],
            wildcard_text="a {grey|red} fox, {by day|at night}",
            populated_text=FOX,
        )
    },
    "ImpactWildcardProcessor": text(
        node("ImpactWildcardProcessor", wildcard_text="a {grey|red} fox", populated_text=FOX)
    ),
    "Flux with tags": {
        "n6": node("CLIPTextEncodeFlux", clip=["4", 1], clip_l="fox, snow, photo, cold, winter, forest, fur", t5xxl=FOX)
    },
    "SDXL with one text": {"n6": node("CLIPTextEncodeSDXL", clip=["4", 1], text_g=FOX, text_l=FOX)},
    "SD3": {
        "n6": node("CLIPTextEncodeSD3", clip=["4", 1], clip_l="red fox", clip_g="", t5xxl=FOX, empty_padding="none")
    },
    # the sampler nearest to the noise
    "FaceDetailer": {
        "n10": node("FaceDetailer", image=["8", 0], model=["4", 0], positive=["11", 0], negative=["7", 0], steps=20),
        "n11": encoder("detailed face, sharp eyes"),
        "n9": node("SaveImage", images=["10", 0]),
    },
    "UltimateSDUpscale": {
        "n10": node("UltimateSDUpscale", image=["8", 0], positive=["11", 0], negative=["7", 0], upscale_by=2.0),
        "n11": encoder("highly detailed, 8k"),
        "n9": node("SaveImage", images=["10", 0]),
    },
    "hires pass": {
        "n10": node("LatentUpscale", samples=["3", 0]),
        "n12": sampler(positive=("11", 0), latent=("10", 0)),
        "n11": encoder("highly detailed, 8k"),
        "n8": node("VAEDecode", samples=["12", 0], vae=["4", 2]),
    },
    "refiner": {
        "n12": node("KSamplerAdvanced", positive=["11", 0], negative=["7", 0], latent_image=["3", 0], start_at_step=20),
        "n11": node("CLIPTextEncodeSDXLRefiner", ascore=6.0, text="masterpiece", clip=["4", 1]),
        "n8": node("VAEDecode", samples=["12", 0], vae=["4", 2]),
    },
    "detailer of a pipe": {
        "n1": node("easy fullLoader", positive=FOX, negative=NO),
        "n3": node("easy fullkSampler", pipe=["1", 0], steps=20),
        "n11": encoder("detailed hands"),
        "n12": node("easy preDetailerFix", pipe=["3", 0], positive=["11", 0]),
        "n8": node("easy detailerFix", pipe=["12", 0]),
        "n9": node("SaveImage", images=["8", 1]),
    },
    "detailer of a bundle": {
        "n10": node("ToDetailerPipe", model=["4", 0], positive=["11", 0], negative=["7", 0]),
        "n11": encoder("detailed face"),
        "n12": node("DetailerForEachPipe", image=["8", 0], segs=["30", 0], detailer_pipe=["10", 0]),
        "n9": node("SaveImage", images=["12", 0]),
    },
    "an average of one alone": {
        "n3": sampler(positive=("10", 0)),
        "n10": node(
            "ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["11", 0], conditioning_to_strength=1.0
        ),
        "n11": encoder("a green parrot"),
    },
    "regions of one conditioning": {
        "n3": sampler(positive=("10", 0)),
        "n10": node("ConditioningSetArea", conditioning=["6", 0], width=64, height=64, x=0, y=0, strength=1.0),
    },
    # who saved it
    "Image Save beside a preview of another picture": {
        "n9": node("Image Save", images=["8", 0], filename_prefix="x"),
        "n20": node("PreviewImage", images=["21", 0]),
        "n21": node("CannyEdgePreprocessor", image=["22", 0]),
        "n22": node("LoadImage", image="in.png"),
    },
    "a preview of a mask": {"n20": node("MaskPreview+", mask=["21", 0]), "n21": node("LoadImageMask", image="m.png")},
    "a saver of a pack": {
        "n9": node("Image Saver", images=["8", 0], positive="wrong", negative="wrong", filename="%time")
    },
    "a preview alone": {"n9": node("PreviewImage", images=["8", 0])},
    # switches
    "ImpactSwitch": {**TWO, "n11": node("ImpactSwitch", select=2, sel_mode=False, input1=["12", 0], input2=["6", 0])},
    "switch of a primitive": {
        **TWO,
        "n11": node("ImpactSwitch", select=["14", 0], input1=["12", 0], input2=["6", 0]),
        "n14": node("PrimitiveInt", value=2),
    },
    "CR switch": {
        **TWO,
        "n11": node("CR Conditioning Input Switch", Input=2, conditioning1=["12", 0], conditioning2=["6", 0]),
    },
    "true or false": {**TWO, "n11": node("ComfySwitchNode", switch=True, on_true=["6", 0], on_false=["12", 0])},
    "index from zero": text(node("easy anythingIndexSwitch", index=1, value0=["12", 0], value1=["13", 0]), **TWO_TEXTS),
    "letters": text(node("Text Input Switch", boolean=False, text_a=["12", 0], text_b=["13", 0]), **TWO_TEXTS),
    "switch of pictures": {
        "n20": node("ImageSwitch", select=1, input1=["8", 0], input2=["21", 0]),
        "n21": node("VAEDecode", samples=["22", 0]),
        "n22": sampler(positive=("23", 0)),
        "n23": encoder("a green parrot"),
        "n9": node("SaveImage", images=["20", 0]),
    },
    # the other half of two-way nodes
    "ControlNet": {
        "n3": sampler(positive=("11", 0), negative=("11", 1)),
        "n11": node(
            "ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["12", 0], image=["13", 0]
        ),
    },
    "inpainting": {
        "n3": sampler(positive=("11", 0), negative=("11", 1), latent=("11", 2)),
        "n11": node("InpaintModelConditioning", positive=["6", 0], negative=["7", 0], pixels=["12", 0], mask=["12", 1]),
        "n12": node("LoadImage", image="in.png"),
    },
}


@pytest.mark.parametrize("case", FOUND)
def test_the_prompt_is_the_one_a_person_reads_off_the_graph(case: str) -> None:
    found = graph(**FOUND[case])
    assert (found.prompt, found.negative, found.uncertain) == (FOX, NO, "")
    assert found.node


def test_partner_nodes_have_a_prompt_and_no_sampler() -> None:
    found = read_graph(
        {
            "1": node("FluxProUltraImageNode", prompt=FOX, aspect_ratio="16:9", seed=0),
            "2": node("SaveImage", images=["1", 0]),
        }
    )
    assert found is not None
    assert found.prompt == FOX
    linked = {
        "1": node("OpenAIDalle3", prompt=["3", 0]),
        "2": node("SaveImage", images=["1", 0]),
        "3": node("Str", value=FOX),
    }
    found = read_graph(linked)
    assert found is not None
    assert found.prompt == FOX


def test_a_negative_of_nothing_is_empty() -> None:
    found = graph(n3=sampler(negative=("10", 0)), n10=node("ConditioningZeroOut", conditioning=["6", 0]))
    assert (found.prompt, found.negative) == (FOX, "")
    guided = {
        "n3": node("SamplerCustomAdvanced", guider=["2", 0], latent_image=["5", 0]),
        "n2": node("BasicGuider", model=["4", 0], conditioning=["6", 0]),
    }
    assert (graph(**guided).prompt, graph(**guided).negative) == (FOX, "")


@pytest.mark.parametrize(
    "maker",
    [
        node("OllamaGenerate", prompt="Write a prompt about an animal.", model="llama3"),
        node("Zork", instruction="Write a prompt about an animal.", temperature=0.7, max_tokens=99),
        node("JoyCaption", image=["20", 0], prompt="Describe this picture in a long sentence."),
        node("GoogleTranslateTextNode", text="ein roter Fuchs im Schnee", from_translate="de"),
    ],
    ids=lambda maker: maker["class_type"],
)
def test_a_node_that_makes_text_does_not_hold_it(maker: dict[str, Any]) -> None:
    found = graph(**text(maker))
    assert found.prompt == ""
    assert maker["class_type"] in found.uncertain
    aside = graph(**text(maker, n12=node("ShowText|pysssss", text=["11", 0], text_0=FOX)))
    assert aside.prompt == FOX
    assert "ShowText" in aside.uncertain
    between = graph(n6=encoder(["12", 0]), n11=maker, n12=node("ShowText|pysssss", text=["11", 0], text_0=FOX))
    assert between.prompt == FOX
    assert between.uncertain


def test_what_cannot_be_known_is_uncertain() -> None:
    assert "draws" in graph(n6=encoder("a {grey|red} fox")).uncertain
    assert (
        "delivered"
        in graph(**TWO, n11=node("ImpactSwitch", select=["14", 0], input1=["12", 0], input2=["6", 0])).uncertain
    )
    other = {"n12": sampler(positive=("11", 0)), "n11": encoder("a dog"), "n20": node("VAEDecode", samples=["12", 0])}
    assert "several prompts" in graph(**other, n21=node("SaveImage", images=["20", 0])).uncertain


# -- the editor's workflow alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changer",
    [
        node("RegexReplace", string="a [[x]] fox", regex_pattern="x", replace="red"),
        node("StringSubstring", string=FOX, start=0, end=5),
        node("Text Parse Tokens", text="a fox with [ears]"),
        node("Text Random Line", text=f"{FOX}\na green parrot", seed=3),
        node("easy promptLine", prompt=f"{FOX}\na green parrot", start_index=0, max_rows=1000),
        node("easy stylesSelector", styles="fooocus_styles", positive=FOX, select_styles="Fooocus Enhance"),
        node("StringFormat", template="a {} fox", value=["12", 0]),
    ],
    ids=lambda changer: changer["class_type"],
)
def test_a_text_that_a_node_changes_out_of_sight_is_uncertain(changer: dict[str, Any]) -> None:
    found = graph(**text(changer, n12=node("PrimitiveString", value="red")))
    assert found.uncertain.startswith("node 11 (")


def test_of_lines_that_are_drawn_from_the_first_is_taken() -> None:
    assert graph(**text(node("Text Random Line", text=f"{FOX}\na green parrot", seed=3))).prompt == FOX


def test_a_negative_prompt_alone() -> None:
    found = graph(n6=encoder(""))
    assert (found.prompt, found.negative, found.uncertain) == ("", NO, "")


def test_several_lines_are_one_prompt() -> None:
    found = graph(**text(node("PrimitiveStringMultiline", value="a red fox\nin deep snow", index=0)))
    assert (found.prompt, found.uncertain) == ("a red fox\nin deep snow", "")


def test_an_empty_text_is_known_through_other_nodes() -> None:
    joined = node("Text Concatenate", text_a=["12", 0], text_b=["12", 0])
    found = graph(**text(joined, n12=node("Text Multiline", text="")))
    assert (found.prompt, found.uncertain) == ("", "")


def test_a_beginning_that_most_samplers_paint_over_is_uncertain() -> None:
    found = graph(
        n3=sampler(latent=("20", 0)),
        n20=sampler(latent=("21", 0)),
        n21=sampler(positive=("22", 0)),
        n22=encoder("fractal"),
    )
    assert "another prompt" in found.uncertain


def test_a_prompt_for_each_frame_is_uncertain() -> None:
    found = graph(n6=node("BatchPromptSchedule", text='"0": "a red fox",\n"12": "a cat"', clip=["4", 1]))
    assert "each frame" in found.uncertain


def row(number: int, kind: str, inputs: dict[str, int | None], widgets: Any = None, **more: Any) -> dict[str, Any]:
    slots = [
        {"name": name, "type": more.get("types", {}).get(name, "X"), "link": link} for name, link in inputs.items()
    ]
    outputs = [{"name": name, "type": name} for name in more.get("outputs", [])]
    row = {"id": number, "type": kind, "mode": more.get("mode", 0), "inputs": slots, "outputs": outputs}
    return row | ({} if widgets is None else {"widgets_values": widgets})


def workflow(*rows: dict[str, Any], links: list[Any], **more: Any) -> Found:
    """Text 6 -> 3, text 7 -> 3; link 1 is the sampler's positive, 2 its negative."""
    fixed = [
        row(3, "KSampler", {"positive": 1, "negative": 2}, [1, "fixed", 20, 7, "euler", "normal", 1]),
        row(7, "CLIPTextEncode", {"clip": None}, [NO], outputs=["CONDITIONING"]),
        row(9, "SaveImage", {"images": 9}, ["x"]),
    ]
    found = read_workflow({"nodes": [*fixed, *rows], "links": [[9, 3, 0, 9, 0, "IMAGE"], *links], **more})
    assert found is not None
    return found


TEXT = row(6, "CLIPTextEncode", {"clip": None}, [FOX], outputs=["CONDITIONING"])
NEGATIVE_LINK = [2, 7, 0, 3, 1, "CONDITIONING"]


def test_bypassed_nodes_pass_on_and_muted_ones_do_not() -> None:
    control = {"types": {"positive": "CONDITIONING", "negative": "CONDITIONING"}, "outputs": ["CONDITIONING"] * 2}
    links = [[4, 6, 0, 11, 0, "C"], [5, 7, 0, 11, 1, "C"], [1, 11, 0, 3, 0, "C"], [2, 11, 1, 3, 1, "C"]]
    bypassed = row(11, "ControlNetApplyAdvanced", {"positive": 4, "negative": 5}, mode=4, **control)
    found = workflow(TEXT, bypassed, links=links)
    assert (found.prompt, found.negative) == (FOX, NO)
    assert workflow(TEXT, bypassed | {"mode": 2}, links=links).prompt == ""


def test_reroutes_set_and_get_and_primitives() -> None:
    reroute, primitive = row(11, "Reroute", {"": 12}), row(12, "PrimitiveNode", {}, [FOX, "fixed"])
    encoder = row(6, "CLIPTextEncode", {"clip": None, "text": 10}, [""], outputs=["CONDITIONING"])
    links = [[1, 6, 0, 3, 0, "C"], NEGATIVE_LINK, [10, 11, 0, 6, 1, "STRING"], [12, 12, 0, 11, 0, "STRING"]]
    assert workflow(encoder, reroute, primitive, links=links).prompt == FOX
    setter, getter = row(11, "SetNode", {"CONDITIONING": 4}, ["pos"]), row(12, "GetNode", {}, ["pos"])
    assert (
        workflow(TEXT, setter, getter, links=[[4, 6, 0, 11, 0, "C"], [1, 12, 0, 3, 0, "C"], NEGATIVE_LINK]).prompt
        == FOX
    )


def test_subgraphs_with_a_field_on_their_outside() -> None:
    inside = {
        "id": "0a1b",
        "nodes": [row(6, "CLIPTextEncode", {"clip": None, "text": 5}, ["inside"], outputs=["CONDITIONING"])],
        "links": [
            {"id": 5, "origin_id": -10, "origin_slot": 0, "target_id": 6, "target_slot": 1},
            {"id": 6, "origin_id": 6, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
        "inputs": [{"name": "text"}],
    }
    outside = row(20, "0a1b", {}, [FOX], outputs=["CONDITIONING"])
    outside["inputs"] = [{"name": "text", "type": "STRING", "link": None, "widget": {"name": "text"}}]
    links = [[1, 20, 0, 3, 0, "C"], NEGATIVE_LINK]
    found = workflow(outside, links=links, definitions={"subgraphs": [inside]})
    assert (found.prompt, found.node) == (FOX, "node 20:6 (CLIPTextEncode)")
    beside = {
        "widgets_values": [None, FOX, None],
        "properties": {"proxyWidgets": [["3", "seed"], ["-1", "text"], ["3", "x"]]},
    }
    assert workflow(outside | beside, links=links, definitions={"subgraphs": [inside]}).prompt == FOX
    inside["nodes"].append(row(7, "0a1b", {}))  # one that holds itself
    assert workflow(outside, links=links, definitions={"subgraphs": [inside]}).prompt == FOX


def test_fields_without_names() -> None:
    wildcard = row(
        6,
        "ImpactWildcardEncode",
        {},
        ["a {grey|red} fox", FOX, "populate", 3],
        outputs=["MODEL", "CLIP", "CONDITIONING"],
    )
    assert workflow(wildcard, links=[[1, 6, 2, 3, 0, "C"], NEGATIVE_LINK]).prompt == FOX
    unknown = row(6, "ZorkEncode", {"clip": None}, [512, "enable", FOX], outputs=["CONDITIONING"])
    found = workflow(unknown, links=[[1, 6, 0, 3, 0, "C"], NEGATIVE_LINK])
    assert found.prompt == FOX
    assert found.uncertain


def test_fields_without_names_that_are_empty_keep_their_places() -> None:
    found = workflow(
        row(1, "## loader [2c8c61]", {}, ["paintmix.safetensors", "", NO], outputs=["BASIC_PIPE"]),
        row(3, "ImpactKSamplerBasicPipe", {"basic_pipe": 1}),
        row(7, "Note", {}),
        links=[[1, 1, 0, 3, 0, "BASIC_PIPE"]],
    )
    assert found.prompt == ""


def test_prompts_that_are_sent_everywhere() -> None:
    found = workflow(
        row(1, "easy wildcards", {}, [FOX], outputs=["STRING"]),
        row(2, "easy negative", {}, [NO], outputs=["STRING"]),
        row(4, "Prompts Everywhere", {"STRING": 1, "STRING2": 2}),
        row(5, "easy comfyLoader", {"positive": None, "negative": None}, ["x", *[0] * 8, "Positive", "Negative", 1]),
        row(3, "easy kSampler", {"pipe": 3}),
        links=[[1, 1, 0, 4, 0, "STRING"], [2, 2, 0, 4, 1, "STRING"], [3, 5, 0, 3, 0, "PIPE"]],
    )
    assert (found.prompt, found.negative) == (FOX, NO)


def test_a_node_that_gives_text_alone_makes_no_picture() -> None:
    asks = row(3, "GeminiNode", {"images": 1}, ["Describe this image"], outputs=["STRING"])
    others = (row(2, "LoadImage", {}, ["x.png"]), row(7, "Note", {}), row(9, "Log", {}))
    found = workflow(*others, asks, links=[[1, 2, 0, 3, 0, "IMAGE"]])
    assert found.prompt == ""


def test_the_workflow_beside_a_graph_tells_what_was_shown() -> None:
    nodes = {
        "3": sampler(),
        "6": encoder(["12", 0]),
        "11": node("OllamaGenerate", prompt="Write."),
        "12": node("ShowText|pysssss", text=["11", 0]),
    }
    editor = {"nodes": [row(12, "ShowText|pysssss", {"text": 1}, [[FOX]])], "links": []}
    found = read_graph(nodes, editor)
    assert found is not None
    assert found.prompt == FOX
    assert found.uncertain


# -- anything at all -----------------------------------------------------------------------------------------------------

KINDS = (
    *(
        "KSampler",
        "CLIPTextEncode",
        "StringConcatenate",
        "SaveImage",
        "ImpactSwitch",
        "Any Switch (rgthree)",
        "Reroute",
    ),
    *(
        "FaceDetailer",
        "easy kSampler",
        "OllamaGenerate",
        "ShowText|pysssss",
        "ConditioningCombine",
        "X",
        "SetNode",
        "GetNode",
    ),
)
INPUTS = (
    *("positive", "negative", "text", "text_a", "text_b", "samples", "latent_image", "image", "pipe", "conditioning_1"),
    *(
        "conditioning_2",
        "select",
        "input1",
        "input2",
        "any_01",
        "value",
        "on_true",
        "on_false",
        "model",
        "clip",
        "prompt",
    ),
    *("delimiter", "guider", "populated_text", "find", "replace"),
)
ODD = (
    "a red fox",
    "a, b, c",
    "",
    None,
    1,
    2.5,
    True,
    [],
    {},
    ["1"],
    ["1", "2"],
    [1, None],
    "{a|b}",
    [["x"]],
    "x" * 200,
)


def anything(chance: random.Random, size: int) -> Any:
    return (
        [str(chance.randrange(size + 3)), chance.choice([0, 1, 99, -1])]
        if chance.random() < 0.6
        else chance.choice(ODD)
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_are_read_in_no_time_and_never_fail(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.choice([1, 3, 10, 50, 200, 500])
    nodes: dict[str, Any] = {}
    rows = []
    for number in range(size):
        inputs = {key: anything(chance, size) for key in chance.sample(INPUTS, chance.randrange(8))}
        nodes[str(number)] = node(chance.choice(KINDS), **inputs) if chance.random() > 0.02 else chance.choice(ODD)
        slots = [{"name": key, "type": "*", "link": chance.choice([None, number, "x", []])} for key in inputs]
        mode = chance.choice([0, 0, 2, 4])
        rows.append({"id": number, "type": chance.choice([*KINDS, "sub"]), "mode": mode, "inputs": slots})
        rows[-1] |= {"widgets_values": chance.choice([*ODD, ["pos"], {"text": "a"}]), "outputs": [{"type": "*"}, None]}
    links = [[n, chance.randrange(size), 0, chance.randrange(size), 0, "*"] for n in range(2 * size)]
    inside = {"id": "sub", "nodes": [*rows[:20], None], "links": [*links[:40], 3], "inputs": None}
    editor = {"nodes": rows, "links": links, "definitions": {"subgraphs": [inside, 1]}, "extra": []}
    taken = min(seconds_of(lambda: read_graph(nodes)) for _ in range(3))
    read_workflow(editor)
    read_graph(nodes, editor)
    assert taken < 0.2  # a machine that has other things to do, too; it takes a tenth of it


def seconds_of(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def row_of_samplers(size: int) -> dict[str, Any]:
    return {str(n): node("KSampler", latent_image=[str(n + 1), 0]) for n in range(size)}


@pytest.mark.parametrize(
    "nodes",
    [
        {str(n): node("KSampler", seed=n) for n in range(20_000)},
        row_of_samplers(20_000),
        row_of_samplers(20_000) | {"s": node("SaveImage", images=["0", 0])},
        {
            "k": node("KSampler", positive=["e", 0]),
            "e": node("CLIPTextEncode", **{f"text{n}": FOX for n in range(20_000)}),
        },
        {
            "k": node("KSampler", positive=["e", 0]),
            "e": node("CLIPTextEncode", **{f"text{n}": f"{FOX} {n}" for n in range(20_000)}),
        },
    ],
    ids=["samplers alone", "samplers in a row", "saved", "one text many times", "many texts"],
)
def test_graphs_of_one_kind_take_time_in_proportion_to_their_size(nodes: dict[str, Any]) -> None:
    before = time.process_time()
    assert read_graph(nodes) is not None
    assert time.process_time() - before < 5.0  # it takes a fifth of it; in the square of the size it takes ten times it


def test_long_chains_and_doubling_texts() -> None:
    chain = {str(n): node("Reroute", **{"": [str(n + 1), 0]}) for n in range(20_000)}
    chain |= {"20000": encoder(FOX), "s": node("KSampler", positive=["0", 0])}
    found = read_graph(chain)
    assert found is not None
    assert found.prompt == FOX
    double = {str(n): node("StringConcatenate", string_a=[str(n + 1), 0], string_b=[str(n + 1), 0]) for n in range(300)}
    double |= {"300": node("Str", value=FOX), "e": encoder(["0", 0]), "s": node("KSampler", positive=["e", 0])}
    found = read_graph(double)
    assert found is not None
    assert 0 < len(found.prompt) <= 16384
    assert json.dumps(found.prompt)


@pytest.mark.parametrize(
    "grower",
    [
        node("StringReplace", string=["1", 0], find="a", replace=["2", 0]),
        node("StringFormat", template="{x}" * 20_000, x=["2", 0]),
    ],
    ids=["replaced", "filled"],
)
def test_texts_that_multiply_stay_short(grower: dict[str, Any]) -> None:
    held = {"1": node("Text Multiline", text="a" * 16_000), "2": node("Text Multiline", text="b" * 16_000)}
    tracemalloc.start()
    found = read_graph(held | {"3": grower, "4": encoder(["3", 0]), "5": node("KSampler", positive=["4", 0])})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert found.prompt == "b" * 16_384
    assert peak < 10e6
