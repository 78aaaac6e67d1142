"""File names from templates: strict in what they take, safe in what they give."""

from __future__ import annotations

from pathlib import Path

import pytest
from sd_imagereward.core.curate.templates import check_template, file_name
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.files.names import safe_name

VALUES = {"score": -0.5, "percentile": 12.3, "rank": 7, "name": "cat", "folder": "out", "scorer": "s", "model": "m"}


@pytest.mark.parametrize(
    "template",
    [
        *("{nonsense}", "plain", "", "{score.real}", "{score:zz}", "{name", "}", "{name[0]}", "{}", "{0}"),
        *("{score:{foo}}", "{score:{score}}", "{score:{}}", "{score!r}", "{name!s:>5}", "{name:d}", "{rank:.2s}"),
        *("{score:1000000000}", "{score:.999999999f}", "{name:>99999999999999999999}", "{prompt.__class__}"),
    ],
)
def test_odd_templates_are_refused(template: str) -> None:
    with pytest.raises(ImageRewardError, match=r"cannot rename to .*The fields are score"):
        check_template(template)


@pytest.mark.parametrize(
    ("template", "prompt", "expected"),
    [
        ("{score:+.2f}_{name}", "", "-0.50_cat.png"),
        ("{rank:04d} {{x}} {percentile:.0f}", "", "0007 {x} 12.png"),
        ("{prompt}", "con", "_con.png"),
        ("{prompt}", "CON.txt", "_CON.txt.png"),
        ("{prompt}", "aux .", "_aux.png"),
        ("{prompt}", "com1", "_com1.png"),
        ("{prompt}", "lpt¹", "_lpt¹.png"),
        ("{prompt}", "console", "console.png"),
        ("{prompt}", "a:b", "a_b.png"),
        ("{prompt}", "..", "cat.png"),
        ("{prompt}", "a fox. . ", "a fox.png"),
        ("{prompt}", "../../evil", "_.._evil.png"),
        ("{prompt}", "a\x1b[31m\x85b\nc", "a_[31m_b_c.png"),
        ("{prompt}", "雪" * 100, "雪" * 66 + ".png"),
        ("{prompt}", "x" * 199 + " y", "x" * 199 + ".png"),
        ("{prompt}.png", "cat", "cat.png"),
    ],
)
def test_names_are_safe_on_every_system(template: str, prompt: str, expected: str) -> None:
    check_template(template)
    assert file_name(template, VALUES | {"prompt": prompt}, Path("cat.png")) == expected


def test_a_name_that_is_no_text_stays_what_it_is() -> None:
    assert safe_name("caf\udce9", 200) == "caf\udce9"
