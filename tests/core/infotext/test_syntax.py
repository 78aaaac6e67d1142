"""Each rule of the module's table as an example, and what holds for any text as a property."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_imagereward.core.infotext.syntax import plain_prompt

EXAMPLES = {
    "a painting of an ocean, with clouds": "a painting of an ocean, with clouds",
    "": "",
    # extra networks and embeddings
    "cat <lora:fur:1> sits": "cat sits",
    "<lyco:a:0.5:1><hypernet:b:1>cat<lora:fur v2.1:te=1:unet=0.5>": "cat",
    "1 < 2 > 0": "1 < 2 > 0",
    "embedding:bad, cat": "cat",
    "cat, (embedding:nice.pt:1.2), embedding:sub/dir_name.safetensors:0.9": "cat",
    r"embedding:sub\name, (embedding:x\), cat": "cat",
    # emphasis
    "a (red:1.3) cat": "a red cat",
    "((red)) [blue] cat": "red blue cat",
    "(a (red:1.2) cat:0.8) sits": "a red cat sits",
    "(time 12: noon)": "time 12: noon",
    "( cat : 1.2 )": "cat",
    "(cat:.5)(dog:-1)": "catdog",
    "a cat (sleeping)": "a cat sleeping",
    "(fe)male": "female",
    "ratio 16:9": "ratio 16:9",
    # schedules and alternation
    "a [cat:dog:0.5] sits": "a dog sits",
    "a [cat:dog: 10 ] sits": "a dog sits",
    "[cat::0.5] sits": "cat sits",
    "[:cat:0.5] sits": "cat sits",
    "[cat:0.5] sits": "cat sits",
    "[(red cat:1.2):(blue dog:1.3):.25]": "blue dog",
    "a[b:[c:d:2]:1]e": "ade",
    "[a:b:c:0.5]": "a:b:c:0.5",
    "[a:b]": "a:b",
    "[cow|horse|pig] in a field": "cow horse pig in a field",
    "[fe|]male": "female",
    "[red|(blue:1.2)] car": "red blue car",
    # wildcards and dynamic prompts
    "a {red|blue} car": "a red car",
    "{2$$red|blue|green} car": "red car",
    "{1-2$$ and $$red|blue} car": "red car",
    "{0.3::red|0.7::blue} car": "red car",
    "a } red ] and ) big cat": "a red and big cat",
    "the numbers [5] and (7)": "the numbers 5 and 7",
    "{{{red}}} {|big} {a {b|c}|d}": "red big a b",
    "a __animal__ sits": "a __animal__ sits",
    # composition
    "a cat AND a dog :0.8 AND sky:-1.2": "a cat, a dog, sky",
    "ANDROID BREAKFAST": "ANDROID BREAKFAST",
    "a cat BREAK a dog": "a cat, a dog",
    "a cat,\nBREAK\na dog": "a cat, a dog",
    "(cat AND dog:1.2)": "cat, dog",
    # escapes and comments
    r"ganyu \(genshin impact\), \[x\]": "ganyu genshin impact, x",
    r"ganyu\(genshin\)": "ganyu genshin",
    r"(name \(series\):1.2)": "name series",
    r"a \\ b \c": "a b c",
    "cat # not this\ndog": "cat dog",
    "# not this\ncat": "cat",
    # brackets without partner
    "a ((cat:1.2) sits": "a cat sits",
    "a cat) sits]": "a cat sits",
    "(a [cat) sits": "a cat sits",
    "[a|b": "a|b",
    # white space
    "  a\tcat ,, , dog,\n\n": "a cat ,, , dog,",
    "(a cat) ,, , <lora:x:1>, dog,": "a cat, dog",
    "猫, (été:1.2) 😀": "猫, été 😀",
    # what is removed may make syntax
    "a A<lora:x:1>ND b": "a, b",
}

pieces = st.sampled_from(
    [*"()[]{}|:,\\#<> \n", "cat", "dog", "0.5", ":1.2)", "AND", "BREAK", "<lora:a:1>", "embedding:x", "2$$", "1::", "é"]
)
texts = st.text() | st.lists(pieces, max_size=25).map("".join)


@pytest.mark.parametrize("text", EXAMPLES)
def test_example(text):
    assert plain_prompt(text) == EXAMPLES[text]


@given(texts)
def test_plain_text_stays_plain(text):
    plain = plain_prompt(text)
    assert plain_prompt(plain) == plain


@given(texts)
def test_no_syntax_is_left(text):
    plain = plain_prompt(text)
    assert not set(plain) & set("()[]{}\\#\n")
    assert not re.search(r"<\w+:[^>]+>|\bembedding:\w|\bAND\b|\bBREAK\b|  ", plain)


words = st.lists(st.sampled_from(["cat", "dog", "sky", "red"]), min_size=1)


@given(words, st.data())
def test_words_and_their_order_survive_emphasis_balanced_or_not(chosen, data):
    noise = st.text(alphabet="()[] ,\n", max_size=4)
    text = data.draw(noise) + "".join(f"{word} {data.draw(noise)}" for word in chosen)
    assert re.findall(r"\w+", plain_prompt(text)) == chosen


@given(words, st.floats(-3, 3).map(lambda weight: f"{weight:.2f}"))
def test_weights_leave_and_words_stay(chosen, weight):
    assert plain_prompt(", ".join(f"({word}:{weight})" for word in chosen)) == ", ".join(chosen)


@pytest.mark.parametrize("bracket", ["(", "[", "{", "(]", "[)", "<a:", "((a:1)"])
def test_thousands_of_brackets_take_no_stack(bracket):
    assert "cat" in plain_prompt(bracket * 5000 + " cat " + ")" * 5000) or bracket == "<a:"


@pytest.mark.parametrize(
    "unit", ["<a:", "(", "]", "([", "(]", "(a", "{1", ":1", " AND 1", "AND:1", " ", "embedding:", "\\("]
)
def test_a_megabyte_of_anything_is_read_once(unit):
    """Where it were read again from each of its places, these would never end."""
    assert len(plain_prompt(unit * (1_000_000 // len(unit)))) <= 1_000_000


OTHERS = [
    ("InvokeAI", "a red++ fox, (deep snow)1.2 (cold)--, sci-fi", "a red fox, deep snow cold, sci-fi"),
    ("InvokeAI", '("a red fox", "deep snow").and()', "a red fox, deep snow"),
    ("InvokeAI", "a cat.swap(dog) runs", "a dog runs"),
    ("InvokeAI", "#1 BREAK 16:9", "#1 BREAK 16:9"),
    ("NovelAI", "1.3::red fox::, {{deep}} [snow] | ganyu (genshin), 16:9", "red fox, deep snow, ganyu (genshin), 16:9"),
    ("Midjourney", "https://x.y/z.png a red fox::2 in snow --ar 16:9 --no birds --v 6.1", "a red fox, in snow"),
    ("Midjourney", "a well-known fox (BREAK) #1", "a well-known fox (BREAK) #1"),
    ("SwarmUI", "a <random:red,grey> (fox:1.2) <lora:x:1> <segment:face> detailed face", "a red fox"),
    ("ComfyUI", 'a sign "BREAK", BREAK, (rock:1.2) AND roll #1', 'a sign "BREAK", rock AND roll #1'),
    ("ComfyUI", "a cat AND dog :0.8", "a cat, dog"),
    ("ComfyUI", "STYLE(A1111) a cat MASK(0 0.5, 0 1) COUPLE(0.5 1, 0 1) a (red) dog", "a cat, a red dog"),
    ("ComfyUI", "You are an assistant designed to draw. <Prompt Start> a fox", "a fox"),
    ("text file", "a mug #1 (red:1.2) <lora:x:1>", "a mug #1 red"),
    ("Fooocus", "#1 (red:1.2) BREAK", "#1 red BREAK"),
    ("A1111", "a fox ADDCOL a dog, C++ 16:9 1.3::x::", "a fox, a dog, C++ 16:9 1.3::x::"),
]


@pytest.mark.parametrize(("program", "text", "plain"), OTHERS)
def test_other_programs(program, text, plain):
    assert plain_prompt(text, program) == plain


@given(texts, st.sampled_from(["InvokeAI", "NovelAI", "Midjourney", "SwarmUI", "ComfyUI", "text file", "another"]))
def test_plain_text_of_any_program_stays_plain(text, program):
    plain = plain_prompt(text, program)
    assert plain_prompt(plain, program) == plain


@pytest.mark.parametrize("program", ["InvokeAI", "NovelAI", "Midjourney", "SwarmUI", "ComfyUI"])
@pytest.mark.parametrize(
    "unit", ["<a:", "(a", "::", ".swap(", ").and(", "++", "- ", "<random:", "|", "1.", "BREAK ", "a "]
)
def test_long_texts_of_any_program(program, unit):
    assert len(plain_prompt(unit * (200_000 // len(unit)), program)) <= 400_000
