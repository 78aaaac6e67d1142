"""Parameters that something broke on their way: what each reads as, and that a label goes into them without harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.infotext.reading import read_infotext
from sd_imagereward.core.infotext.scores import read_scores, set_scores

LINE = "Steps: 24, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 411, Size: 64x48, Model: paintmix"
FOX = "a red fox"
CAPTION = "Subject: a red fox, Setting: deep snow, Mood: calm"

# text, prompt, negative prompt
BROKEN = {
    "a template behind": (f"{FOX}\n{LINE}\nTemplate: a {{red|grey}} fox, in snow, by day", FOX, ""),
    "both templates": (
        f"{FOX}\nNegative prompt: blurry\n{LINE}\nTemplate: a fox\nNegative Template: dull",
        FOX,
        "blurry",
    ),
    "a line break in quotes": (
        f'{FOX}\n{LINE}, Wildcard prompt: "a fox,\nin snow", Hires upscale: 2, Version: v1',
        FOX,
        "",
    ),
    "a line break without": (
        f"{FOX}\n{LINE}, Wildcard prompt: a fox,\nin snow, Hires upscale: 2, Hires steps: 3",
        FOX,
        "",
    ),
    "words glued on": (f"{FOX}\n{LINE}\nsaved by a tool, on a day: Monday", FOX, ""),
    "two pairs": (f"{FOX}\nSteps: 20, Seed: 5", FOX, ""),
    "one pair": (f"{FOX}\nSteps: 20", FOX, ""),
    "no line breaks": (f"{FOX} {LINE}", FOX, ""),
    "no line breaks, with a negative": (f"{FOX} Negative prompt: blurry {LINE}", FOX, "blurry"),
    "line breaks as letters": (rf"{FOX}\nNegative prompt: blurry\n{LINE}", FOX, "blurry"),
    "Windows": (f"\ufeff{FOX}\r\nNegative prompt: blurry\r\n{LINE}\r\n", FOX, "blurry"),
    "names in front": (f"Prompt: {FOX}\nNegative Prompt: blurry\n{LINE}", FOX, "blurry"),
    "another order": (f"{FOX}\nSeed: 411, Size: 64x48, Steps: 24, Sampler: Euler", FOX, ""),
    "labelled below a template": (
        f"{FOX}\n{LINE}\nTemplate: a fox\nSize: 64x48, Technical: 0.5, Scored with: x",
        FOX,
        "",
    ),
    "labelled below two pairs": (f"{FOX}\nSteps: 20, Seed: 5\nSize: 8x8, Technical: 0.5, Scored with: x", FOX, ""),
    "settings alone": (LINE, "", ""),
    "a prompt alone": (FOX, FOX, ""),
    "a caption in pairs": (CAPTION, CAPTION, ""),
    "a caption in short pairs": (
        "subject: fox, setting: snow, mood: calm",
        "subject: fox, setting: snow, mood: calm",
        "",
    ),
    "a caption in Chinese": ("主题: 红狐, 场景: 深雪, 情绪: 平静", "主题: 红狐, 场景: 深雪, 情绪: 平静", ""),
    "a caption with a label": (f"{CAPTION}, Technical: 0.5000", CAPTION, ""),
    "a caption above": (f"{CAPTION}\nNegative prompt: blurry\n{LINE}", CAPTION, "blurry"),
    "nothing": ("", "", ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_prompt_and_negative(case: str) -> None:
    text, prompt, negative = BROKEN[case]
    reading = read_infotext(text)
    assert (reading.prompt, reading.negative, reading.uncertain) == (prompt, negative, "")


@pytest.mark.parametrize("case", BROKEN)
def test_a_label_changes_no_prompt_and_can_be_read(case: str) -> None:
    text, prompt, negative = BROKEN[case]
    labelled = set_scores(text, {"Technical": 0.25}, facts={"Size": "64x48"})
    assert read_scores(labelled, ["Technical"]) == {"Technical": 0.25}
    assert set_scores(labelled, {"Technical": 0.25}) == labelled
    reading = read_infotext(labelled)
    assert (reading.prompt, reading.negative) == (prompt, negative)


def test_fields_are_those_of_the_settings() -> None:
    fields = read_infotext(BROKEN["a line break in quotes"][0]).fields
    assert (fields["Wildcard prompt"], fields["Version"], fields["Model"]) == ("a fox,\nin snow", "v1", "paintmix")
    assert read_infotext(BROKEN["a template behind"][0]).fields["Template"] == "a {red|grey} fox, in snow, by day"


@pytest.mark.parametrize("prompt", ["", FOX, f"{FOX}\nin snow"])
def test_the_first_setting_is_whole_wherever_its_line_begins(prompt: str) -> None:
    reading = read_infotext(f"{prompt}\n{LINE}")
    assert (reading.prompt, reading.fields["Steps"]) == (prompt, "24")
    assert len(reading.fields) == 6


def test_words_inside_a_prompt_whose_settings_are_plain_stay_there() -> None:
    prompt = "a sign that says Negative prompt: no entry"
    assert (read_infotext(f"{prompt}\n{LINE}").prompt, read_infotext(f"{prompt}\n{LINE}").negative) == (prompt, "")


def test_what_could_not_be_split_is_uncertain() -> None:
    assert read_infotext("masterpiece, Steps: a stair, Sampler: x").uncertain


@given(st.text() | st.text(alphabet=st.sampled_from('Steps: 20,Seed\n"\\Negativ prompt')))
def test_anything_is_read(text: str) -> None:
    assert isinstance(read_infotext(text).prompt, str)


@pytest.mark.parametrize(
    "unit", [" Steps: 1", "Negative prompt: ", "\n", ": ", 'ab: "', "Steps: 1, ", "\\n", "a\n", "，"]
)
def test_a_megabyte_of_anything_is_read_once(unit: str) -> None:
    read_infotext(unit * (300_000 // len(unit)))
