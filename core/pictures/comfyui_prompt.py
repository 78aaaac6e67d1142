"""The prompt of a ComfyUI picture: the text that its noise became a picture by.

From the node that saves the picture the graph is walked back along images and latents. Of the samplers on this way the one
counts whose latents come from no other sampler: detailers, upscalers, hires passes and refiners carry helper texts. Then
the text that reaches its positive input is looked for (`comfyui_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import comfyui_fields as fields
from .comfyui_graph import Graph, Link, Node, consumers, graph_of, loras_of, model_of, upstream, with_editor
from .comfyui_switch import delivered, is_switch
from .comfyui_text import NEGATIVE, NOTHING, POSITIVE, SEEKS_NEGATIVE, PromptText, Texts, unnamed_words
from .comfyui_workflow import graph_of_workflow

_MOST_ENDS = 6  # savers looked at
_MOST_ROUNDS = 64  # samplers one behind the other that tell nothing, before the search ends
IsStage = Callable[[Node, bool], bool]


@dataclass(frozen=True)
class Found:
    """What a graph tells about its picture. `node`: the one that holds the prompt; `uncertain`: why it may be another one."""

    prompt: str
    negative: str
    model: str
    loras: tuple[str, ...]
    node: str = ""
    uncertain: str = ""


def read_graph(graph: dict[str, Any], workflow: dict[str, Any] | None = None) -> Found | None:
    """What the `prompt` chunk holds; None if it is no graph. workflow: the editor's chunk beside it, which knows types."""
    nodes = graph_of(graph)
    return _found(with_editor(nodes, graph_of_workflow(workflow)) if workflow else nodes)


def read_workflow(workflow: dict[str, Any]) -> Found | None:
    """What the `workflow` chunk says, read as the graph that it would become; None if it is none."""
    return _found(graph_of_workflow(workflow))


def _found(graph: Graph) -> Found | None:
    return _Reader(graph).found() if graph else None


class _Reader:
    """One graph and what was found out about it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.texts = Texts(graph)
        self.given = consumers(graph)
        # Of each node the (input, link) pairs that lead to the pictures it was given.
        self.pictures = {name: list(_to_pictures(graph, node)) for name, node in graph.items()}
        self.receivers: dict[str, set[str]] = {}  # and who got one from it
        for name, links in self.pictures.items():
            for _, (source, _) in links:
                self.receivers.setdefault(source, set()).add(name)

    def found(self) -> Found:
        answers: list[tuple[str, PromptText, str]] = []
        for is_stage in (_is_stage, _is_unnamed_stage):
            for ways in self._ends():
                answers = answers or [found for ends in ways if (found := self._described(ends, is_stage)) is not None]
        stage, positive, doubt = next(
            (answer for answer in answers if answer[1].text.strip()), answers[0] if answers else self._lone_encoder()
        )
        if len({answer[1].text.strip() for answer in answers}) > 1:
            doubt = doubt or "the graph saves pictures of several prompts"
        stage = stage or self._silent_stage()
        negative = self._prompt_of(self.graph[stage], NEGATIVE) if stage else NOTHING
        used = list(upstream(self.graph, [stage] if stage else self.graph))
        holder = self.graph.get(positive.node)
        return Found(
            positive.text.strip(),
            negative.text.strip(),
            model_of(self.graph, used),
            tuple(loras_of(self.graph[name] for name in used)),
            str(holder) if holder else "",
            positive.doubt or doubt,
        )

    def _ends(self) -> list[list[list[str]]]:
        """The nodes that may have written the file, one by one: those that save, then those that show, then all together."""
        nodes = [(name, node) for name, node in self.graph.items() if self.pictures[name]]
        saving = [name for name, node in nodes if fields.saves(node)]
        saving.sort(key=lambda name: (name in self.given, not self.graph[name].kind.startswith("SaveImage")))
        last = [name for name in self.graph if name not in self.given] or list(self.graph)
        outermost = set(last)
        showing = [name for name, node in nodes if name in outermost and (fields.shows(node) or fields.samples(node))]
        return [*([[name] for name in names[:_MOST_ENDS]] for names in (saving, showing)), [last]]

    def _described(self, ends: list[str], is_stage: IsStage) -> tuple[str, PromptText, str] | None:
        """(the sampler that the picture began with, its text, why it may be another one); None if there is none."""
        stages = self._stages(ends, is_stage)
        for _ in range(_MOST_ROUNDS):
            first = self._first_of(stages)
            described = [(name, self._prompt_of(self.graph[name], POSITIVE)) for name in first]
            described = [(name, prompt) for name, prompt in described if prompt.text.strip() or prompt.doubt]
            if described:
                several = len({prompt.text.strip() for _, prompt in described}) > 1
                doubt = f"the picture is put together from {len(described)} samplers" if several else ""
                return (*described[0], doubt or self._other_prompt_later(stages, first, described[0][1]))
            stages = [name for name in stages if name not in first]
        for end in ends:  # a saver that gets the prompt, behind nodes that hold none
            prompt = self.texts.own(
                self.graph[end], POSITIVE, lambda key: fields.is_positive(key) and fields.is_text(key)
            )
            if prompt.text.strip():
                return end, prompt, ""
        return None

    def _other_prompt_later(self, stages: list[str], first: list[str], prompt: PromptText) -> str:
        """Why the first prompt may be a mere beginning: two or more later samplers share another, longer prompt."""
        later = [self._prompt_of(self.graph[name], POSITIVE).text.strip() for name in stages if name not in first]
        longer = [text for text in later if len(text) > len(prompt.text.strip())]
        several = any(longer.count(text) > 1 for text in set(longer))
        return "most samplers have another prompt than the first one" if several else ""

    def _prompt_of(self, node: Node, polarity: str) -> PromptText:
        """The prompt of a sampler: from its conditionings, a pipe, or fields of its own."""
        seeks = SEEKS_NEGATIVE if polarity == NEGATIVE else POSITIVE
        named = [
            key for key in node.links if (fields.is_negative if polarity == NEGATIVE else fields.is_condition)(key)
        ]
        others = [key for key in node.links if key not in named and not fields.is_positive(key)]
        others = [key for key in others if fields.is_condition(key) or fields.is_pipe(key) or key.endswith("sampler")]
        doubted = NOTHING
        for key in [*named, *others]:
            prompt = self.texts.conditioning(node.links[key], polarity if key in named else seeks)
            if prompt.text.strip():
                return prompt
            doubted = prompt if prompt.doubt and not doubted.doubt else doubted
        if doubted.doubt or named:
            return doubted
        own = fields.is_negative if polarity == NEGATIVE else _own_prompt
        prompt = self.texts.own(
            node, polarity, lambda key: own(key) and fields.is_text(key) and not fields.is_pipe(key)
        )
        return prompt if prompt.text.strip() or prompt.doubt else unnamed_words(node, polarity)

    def _stages(self, ends: list[str], is_stage: IsStage) -> list[str]:
        """The nodes before the ends that make pictures by a text, nearest to the ends first."""
        piped: set[str] = set()  # reached as a bundle of settings, not as a picture

        def follow(node: Node) -> Iterator[Link]:
            for key, link in self.pictures[node.name]:
                if fields.is_pipe(key):
                    piped.add(link[0])
                yield link

        ways = list(upstream(self.graph, ends, follow))
        outermost = set(ends)
        return [name for name in ways if name not in outermost and is_stage(self.graph[name], name in piped)] or [
            name for name in ends if is_stage(self.graph[name], False)
        ]

    def _first_of(self, stages: list[str]) -> list[str]:
        """Those of the stages that get a picture from no other one; all of them where they run in a circle."""
        later: set[str] = set()
        waiting = list(stages)
        while waiting:
            for name in self.receivers.get(waiting.pop(), ()):
                if name not in later:
                    later.add(name)
                    waiting.append(name)
        return [name for name in stages if name not in later] or stages

    def _silent_stage(self) -> str:
        """The sampler that a picture began with, where none has a prompt: it may have a negative one."""
        for ways in self._ends():
            for ends in ways:
                stages = self._stages(ends, _is_stage)
                if stages:
                    return self._first_of(stages)[0]
        return ""

    def _lone_encoder(self) -> tuple[str, PromptText, str]:
        """The text of a graph without samplers, where just one node encodes text."""
        if any(
            fields.is_condition(key) or fields.is_negative(key) for node in self.graph.values() for key in node.links
        ):
            return "", NOTHING, ""
        encoders = [name for name, node in self.graph.items() if "TextEncode" in node.kind]
        prompt = self.texts.conditioning((encoders[0], 0), POSITIVE) if len(encoders) == 1 else NOTHING
        return "", prompt, ""


def _own_prompt(key: str) -> bool:
    return (fields.is_prompt(key) or fields.is_positive(key)) and not fields.is_negative(key)


def _is_stage(node: Node, piped: bool) -> bool:
    """Whether a node makes a picture by a text. piped: it was reached as a bundle of settings, not as a picture."""
    if piped and not fields.samples(node):
        return any(fields.is_positive(key) and isinstance(value, str) for key, value in node.values.items())
    if any(fields.is_condition(key) or fields.is_pipe(key) or key.endswith("_sampler") for key in node.links):
        return not fields.saves(node)
    if not fields.may_make_pictures(node):
        return False
    own = any(isinstance(value, str) and _own_prompt(key) for key, value in node.values.items())
    return own or any(fields.is_prompt(key) and not fields.is_condition(key) for key in node.links)


def _is_unnamed_stage(node: Node, piped: bool) -> bool:
    """Whether a node may be one whose fields lost their names."""
    return fields.may_make_pictures(node) and bool(unnamed_words(node, POSITIVE).text)


def _to_pictures(graph: Graph, node: Node) -> Iterator[tuple[str, Link]]:
    """The (input, link) pairs of a node that lead to the pictures it was given."""
    keys = delivered(graph, node)[0] if is_switch(node) else list(node.links)
    for key in keys:
        if key not in node.links:
            continue
        link = node.links[key]
        source = graph.get(link[0])
        if source is not None and fields.leads_to_picture(key, source.output_type(link[1])):
            yield key, link
