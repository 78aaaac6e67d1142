"""The text that reaches an input of a ComfyUI graph: followed from link to link back to the fields that hold it.

Every step is a generator that yields the steps it depends on, and `Texts` runs them from a list instead of the call stack:
twenty thousand reroutes in a row are no deeper than one, and no step is done twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

from . import comfyui_fields as fields
from . import comfyui_rewriting as rewriting
from .comfyui_graph import UNNAMED, Graph, Link, Node, consumers
from .comfyui_switch import delivered, families, is_switch

LONGEST = 16384  # characters: what is joined from joined texts must not grow without bound
_MOST_ENCODERS = 64  # of one model
POSITIVE, NEGATIVE = "positive", "negative"
SEEKS_NEGATIVE = "seeks negative"  # no input prompt yet that it is the negative one
_DELIMITER = re.compile(r"delim|separat|joiner|^sep$|glue|divider", re.IGNORECASE)
_DELIMITER_NAMES = {"none": "", "space": " ", "comma": ", ", "newline": "\n", "new line": "\n", "line break": "\n"}
_BEFORE, _AFTER = (
    re.compile(r"prefix|prepend|before|^pre_", re.IGNORECASE),
    re.compile(r"suffix|append|after|^post_", re.IGNORECASE),
)
_DRAWN = re.compile(r"__[\w/ *-]+__|\{[^{}]*\|[^{}]*\}")
_FRAMES = re.compile(r"\s*[\"']?\d+[\"']?\s*:\s*[\"'(]")


class PromptText(NamedTuple):
    """A text, the node that holds it, and why it may not be what the picture was made of ("" where it is)."""

    text: str = ""
    node: str = ""
    doubt: str = ""


class Step(NamedTuple):
    """What is asked: the conditioning or the text that a node gives out, and of which polarity."""

    ask: str
    link: Link
    polarity: str


NOTHING = PromptText()
Steps = Generator[Step, PromptText, PromptText]


class Texts:
    """Answers steps over one graph. Cycles, missing nodes and wrong types give no text."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._known: dict[Step, PromptText] = {}
        self._consumers: dict[str, list[tuple[str, str]]] | None = None
        self._asks: dict[str, Callable[[Node, int, str], Steps]] = {
            "conditioning": self._conditioning,
            "text": self._text,
        }

    def conditioning(self, link: Link, polarity: str) -> PromptText:
        return self._run(Step("conditioning", link, polarity))

    def text(self, link: Link, polarity: str) -> PromptText:
        return self._run(Step("text", link, polarity))

    def own(self, node: Node, polarity: str, wants_key: Callable[[str], bool]) -> PromptText:
        """The text of those fields of a node, or of the links into them."""
        return self._drive(self._fields(node, [key for key in (*node.values, *node.links) if wants_key(key)], polarity))

    # -- steps in a list -----------------------------------------------------------------------------------------------

    def _run(self, step: Step) -> PromptText:
        def ask() -> Steps:
            return (yield step)

        return self._drive(ask())

    def _drive(self, first: Steps) -> PromptText:
        stack: list[tuple[Step | None, Steps]] = [(None, first)]
        answer: PromptText | None = None
        while True:
            step, work = stack[-1]
            try:
                request = work.send(answer) if answer is not None else next(work)
            except StopIteration as end:
                answer = PromptText(end.value.text[:LONGEST], *end.value[1:])
                stack.pop()
                if step is None:
                    return answer
                self._known[step] = answer
                continue
            answer = self._known.get(request)
            if answer is None:
                self._known[request] = NOTHING  # for whoever comes back here in a circle
                node = self.graph.get(request.link[0])
                if node is None:
                    answer = NOTHING
                else:
                    stack.append((request, self._asks[request.ask](node, request.link[1], request.polarity)))

    # -- conditionings ---------------------------------------------------------------------------------------------------

    def _conditioning(self, node: Node, slot: int, polarity: str) -> Steps:
        if re.search(r"zero ?_?out|empty ?_?cond", node.kind, re.IGNORECASE):
            return NOTHING
        polarity = _by_output(node, slot, polarity)
        if _gives_text(node, slot):
            return (yield Step("text", (node.name, slot), polarity))
        if is_switch(node) and node.links:
            return (yield from self._switched(node, slot, polarity, "conditioning"))
        own = yield from self._fields(node, _encoded(node, polarity), polarity)
        if own.text.strip() or own.doubt:
            return own
        found = []
        for key in _conditions(node, polarity):
            settled = NEGATIVE if polarity == SEEKS_NEGATIVE and fields.is_negative(key) else polarity
            found.append((yield Step("conditioning", node.links[key], settled)))
        prompt = _joined(found, ", ", distinct=True)
        return prompt if prompt.text.strip() or prompt.doubt else unnamed_words(node, polarity)

    # -- texts -----------------------------------------------------------------------------------------------------------

    def _text(self, node: Node, slot: int, polarity: str) -> Steps:
        polarity = _by_output(node, slot, polarity)
        if fields.makes_text(node):
            return self._shown_by_others(node)
        if is_switch(node) and (node.links or len(node.values) > 1):
            return (yield from self._switched(node, slot, polarity, "text"))
        populated = _populated(node, _of_polarity([*node.values], polarity))
        if populated.text:
            return populated
        template = rewriting.template_of(node)
        found = yield from (self._filled(node, template, polarity) if template else self._replaced(node, polarity))
        untold = rewriting.what_is_not_told(node, found.text)
        if untold and found.text.strip():
            return found._replace(text=rewriting.first_of_drawn(node, found.text), doubt=found.doubt or untold)
        if fields.shows(node) and found.node != node.name and (found.doubt or not found.text.strip()):
            shown = _shown(node)
            if shown:
                reason = f"{found.doubt}; the text that {node} showed is taken" if found.doubt else ""
                return PromptText(shown, node.name, reason)
        if not found.text.strip() and not found.doubt and not self._holds_nothing(node, polarity):
            return PromptText("", node.name, f"{node} does not hold the text that it gives")
        return found

    def _parts(self, node: Node, polarity: str) -> Steps:
        """The texts that a node is given or holds, joined as it joins them."""
        linked = [key for key in node.links if fields.leads_to_text(key, self._type(node.links[key]))]
        held = [key for key, value in node.values.items() if isinstance(value, str) and _is_part(key)]
        replaced = {key for pair in rewriting.replacements(node) for key in pair}
        keys = _of_polarity([key for key in (*linked, *held) if key not in replaced], polarity)
        joined = _joining(keys)
        if joined:
            found = []
            for key in joined:
                found.append((yield from self._field(node, key, polarity)))
            return _joined(found, _delimiter(node), distinct=False)
        for key in [*(k for k in keys if k in linked), *(k for k in keys if k not in linked)]:
            prompt = yield from self._field(node, key, polarity)
            if prompt.text.strip() or prompt.doubt:
                return prompt
        words = list(filter(fields.looks_like_words, node.values.values()))
        if not words:
            return NOTHING
        doubt = f"{node} holds {len(words)} texts, of which the longest is taken" if len(words) > 1 else ""
        return PromptText(max(words, key=len), node.name, doubt)

    def _replaced(self, node: Node, polarity: str) -> Steps:
        """What a node is given or holds, with the words replaced that it replaces."""
        prompt = yield from self._parts(node, polarity)
        for old_key, new_key in rewriting.replacements(node):
            old = yield from self._field(node, old_key, polarity)
            new = yield from self._field(node, new_key, polarity)
            if old.text:
                text = rewriting.replaced(prompt.text, old.text, new.text, LONGEST)
                prompt = prompt._replace(text=text, doubt=prompt.doubt or new.doubt)
        return prompt

    def _filled(self, node: Node, template: str, polarity: str) -> Steps:
        """The template that a node holds, with what its other inputs say in place of their names."""
        texts: dict[str, str] = {}
        doubt = ""
        text = str(node.values[template])
        for key in rewriting.places_of(text):
            if key in node.links:
                prompt = yield Step("text", node.links[key], polarity)
                texts[key], doubt = prompt.text, doubt or prompt.doubt
            elif isinstance(node.values.get(key), (str, int, float)):
                texts[key] = str(node.values[key])
        return PromptText(rewriting.filled(text, texts, LONGEST), node.name, doubt)

    def _fields(self, node: Node, keys: list[str], polarity: str) -> Steps:
        """What the text fields of an encoder say together; of a wildcard node what was drawn, not what it drew from."""
        populated = _populated(node, keys)
        if populated.text:
            return populated
        found = []
        for key in keys:
            found.append((yield from self._field(node, key, polarity)))
        return _of_encoders(found)

    def _field(self, node: Node, key: str, polarity: str) -> Steps:
        if key in node.links:
            return (yield Step("text", node.links[key], NEGATIVE if polarity == SEEKS_NEGATIVE else polarity))
        value = node.values.get(key)
        if not isinstance(value, str) or not value.strip():
            return NOTHING
        doubt = ""
        if _DRAWN.search(value):
            doubt = f"{node} draws from {value.strip()[:40]!r}, and what it drew is not in the file"
        elif _FRAMES.match(value):
            doubt = f"{node} holds a prompt for each frame"
        return PromptText(value, node.name, doubt)

    def _switched(self, node: Node, slot: int, polarity: str, ask: str) -> Steps:
        keys, known = delivered(self.graph, node)
        found = []
        for key in keys:
            if key in node.links:
                prompt = yield Step(ask, node.links[key], polarity)
            else:
                prompt = yield from self._field(node, key, polarity)
            if prompt.text.strip() or prompt.doubt:
                found.append(prompt)
                if known:
                    break
        if len({prompt.text.strip() for prompt in found}) > 1:
            return found[0]._replace(doubt=f"which input {node} delivered is not in the file")
        if not found and not node.links:
            return PromptText("", node.name, f"{node} does not hold the text that it gives")
        return found[0] if found else NOTHING

    def _shown_by_others(self, node: Node) -> PromptText:
        """Of a node that makes text: what another node showed of it, or nothing."""
        if self._consumers is None:
            self._consumers = consumers(self.graph)
        reason = f"its text was made by {node} while the picture was made"
        for name, _ in self._consumers.get(node.name, []):
            other = self.graph[name]
            if fields.shows(other) and _shown(other):
                return PromptText(_shown(other), name, f"{reason}; the text that {other} showed is taken")
        if node.shown:
            return PromptText(node.shown, node.name, f"{reason}; the text that it showed is taken")
        return PromptText("", node.name, f"{reason}, and is not in the file")

    def _holds_nothing(self, node: Node, polarity: str) -> bool:
        """Whether a node has a field for its text, or is given one, so that the text is known to be empty."""
        held = [key for key, value in node.values.items() if isinstance(value, str) and _is_part(key)]
        given = [key for key, link in node.links.items() if link[0] in self.graph and fields.is_text(key)]
        return bool(_of_polarity([*held, *given], polarity)) and not fields.shows(node)

    def _type(self, link: Link) -> str:
        node = self.graph.get(link[0])
        return node.output_type(link[1]) if node is not None else ""


def _populated(node: Node, keys: Iterable[str]) -> PromptText:
    """Of a wildcard node the text that it drew, NOTHING where none of the fields holds one."""
    for key in keys:
        value = node.values.get(key)
        if "populated" in key and isinstance(value, str) and value.strip():
            return PromptText(value, node.name)
    return NOTHING


def unnamed_words(node: Node, polarity: str) -> PromptText:
    """Of fields that carry no names: the first that holds words is taken for the prompt, the second for the negative one."""
    held = [v for key, v in node.values.items() if key.endswith(UNNAMED)]
    words = [v for v in held if v == "" or fields.looks_like_words(v)]
    place = 0 if polarity == POSITIVE else 1
    if len(words) <= place or not words[place]:
        return NOTHING
    return PromptText(words[place], node.name, f"the fields of {node} carry no names in this file")


def _gives_text(node: Node, slot: int) -> bool:
    """Whether what a node gives is a text, which the node that takes it encodes by itself."""
    kind = node.output_type(slot)
    if kind and kind != "*":
        return kind == "STRING"
    if re.search(r"encod|condition", node.kind, re.IGNORECASE):
        return False
    about_pictures = (fields.is_condition, fields.is_negative, fields.is_aside, fields.is_pipe)
    return not any(known(key) for key in node.links for known in about_pictures) and not is_switch(node)


def _by_output(node: Node, slot: int, polarity: str) -> str:
    """The polarity that the name of the node's own output tells; else the one that was asked for."""
    name = node.output_name(slot)
    if fields.is_negative(name):
        return NEGATIVE
    return POSITIVE if fields.is_positive(name) else polarity


def _of_polarity(keys: list[str], polarity: str) -> list[str]:
    """Of inputs, some of which are positive and others negative, those that are polarity; the rest where none says so."""
    negative = [key for key in keys if fields.is_negative(key)]
    positive = [key for key in keys if fields.is_positive(key)]
    if polarity == POSITIVE:
        return positive or [key for key in keys if key not in negative]
    if negative or positive or polarity == SEEKS_NEGATIVE:
        return negative
    return keys


def _encoded(node: Node, polarity: str) -> list[str]:
    """The fields whose text a node turns into a conditioning."""
    held = [key for key, value in node.values.items() if isinstance(value, str) and fields.is_text(key)]
    linked = [
        key for key in node.links if fields.is_text(key) and not fields.is_condition(key) and not fields.is_pipe(key)
    ]
    texts = [key for key in linked if not fields.is_negative(key) or "prompt" in key or "text" in key]
    return _of_polarity([*texts, *held], polarity)


def _conditions(node: Node, polarity: str) -> list[str]:
    """The links that a conditioning comes through, of one polarity."""
    given = [key for key in node.links if not fields.is_aside(key) and not fields.is_pipe(key)]
    named = _of_polarity(given, polarity)
    conditions = [key for key in named if fields.is_condition(key) or fields.is_negative(key)]
    conditions = [key for key in conditions if not key.startswith("refiner")] or conditions
    share = node.values.get("conditioning_to_strength")  # of an average; at its ends one of the two alone counts
    if share in (0, 1):
        conditions = [key for key in conditions if key == ("conditioning_to" if share else "conditioning_from")]
    # A reroute or a node of an unknown pack calls its input as it likes.
    chosen = conditions or [key for key in named if not re.match(r"image|pixels|latent|text", key, re.IGNORECASE)]
    return chosen + [key for key in node.links if fields.is_pipe(key)] if not conditions else chosen


def _is_part(key: str) -> bool:
    """Whether a field holds text, or what a node puts before or behind a text."""
    around = (_BEFORE.search(key) or _AFTER.search(key)) and "file" not in key.lower()
    return fields.is_text(key) or bool(around)


def _joining(keys: list[str]) -> list[str]:
    """The inputs that a node puts together, in its order; none where it has but one."""
    grouped = families(keys)
    main = max(grouped.values(), key=len, default=[])
    before = [key for key in keys if _BEFORE.search(key)]
    after = [key for key in keys if _AFTER.search(key)]
    if len(main) < 2 and not before and not after:
        return []
    if len(main) < 2:
        main = [key for key in keys if key not in before and key not in after][:1]
    return [*before, *(key for key in main if key not in before and key not in after), *after]


def _delimiter(node: Node) -> str:
    broken = node.values.get("linebreak_addition")  # older WAS nodes
    if isinstance(broken, str):
        return "\n" if broken == "true" else ""
    value = next((value for key, value in node.values.items() if _DELIMITER.search(key)), ", ")
    if not isinstance(value, str):
        return ", "
    return _DELIMITER_NAMES.get(value.lower(), value.replace("\\n", "\n"))


def _joined(found: Iterable[PromptText], delimiter: str, *, distinct: bool) -> PromptText:
    parts = [prompt for prompt in found if prompt.text.strip() or prompt.doubt]
    if not parts:
        return NOTHING
    texts = [prompt.text for prompt in parts if prompt.text.strip()]
    if distinct:
        texts = list(dict.fromkeys(text.strip() for text in texts))
    doubt = next((prompt.doubt for prompt in parts if prompt.doubt), "")
    return PromptText(
        delimiter.join(texts), next((prompt.node for prompt in parts if prompt.text), parts[0].node), doubt
    )


def _of_encoders(found: Iterable[PromptText]) -> PromptText:
    """What several encoders of one model are told: all that differs, and of sentences and lists of tags the sentences."""
    parts = [prompt for prompt in found if prompt.text.strip() or prompt.doubt]
    folded = {prompt: " ".join(prompt.text.lower().split()) for prompt in parts}
    distinct = set(folded.values())
    if len(distinct) > _MOST_ENCODERS:  # no model has as many, and each is looked for in all
        distinct = set()
    kept = [
        prompt for prompt in parts if not any(folded[prompt] != other and folded[prompt] in other for other in distinct)
    ]
    kept = list({prompt.text.strip(): prompt for prompt in kept}.values()) or parts[:1]
    sentences = [prompt for prompt in kept if not _is_tags(prompt.text)]
    return _joined(sentences or kept, ", ", distinct=True)


def _is_tags(text: str) -> bool:
    pieces = [piece for piece in re.split(r"[,，、\n]", text) if piece.strip()]
    return len(pieces) > 2 and sum(len(piece.split()) for piece in pieces) <= 2.5 * len(pieces)


def _shown(node: Node) -> str:
    """The text that a node shows: what the editor wrote down while it ran, else the longest of its own fields."""
    return node.shown or max(
        (v for v in node.values.values() if isinstance(v, str) and len(v.strip()) > 1), key=len, default=""
    )
