"""What the extension uses of its host, read off its own source by `ast`, and for what of it the code asks first.

It asks by `hasattr`, by `getattr` with a default, by an import inside `try`, or by a function of ours that does: one that takes
the name (`host.has_hook("setup")`), or one that asks for a certain name itself. What a file asks for may be missing there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .checkout import Function, dotted_parts

SCRIPT, STEP = "modules.scripts.Script", "modules.scripts_postprocessing.ScriptPostprocessing"
SETTINGS, FLAGS = "modules.shared.opts", "modules.shared.cmd_opts"
OWN_SETTINGS = f"{SETTINGS}.image_reward"
LABELS = {SCRIPT: "Script", STEP: "ScriptPostprocessing", SETTINGS: "opts", FLAGS: "cmd_opts"}

# What the host hands to our code, by the name that our code gives it. Hosts have `p` in several classes.
PROCESSING = tuple(f"modules.processing.StableDiffusionProcessing{kind}" for kind in ("", "Txt2Img", "Img2Img"))
HANDED: dict[str, tuple[str, ...]] = {
    "p": PROCESSING,
    "processed": ("modules.processing.Processed",),
    "params": ("modules.script_callbacks.ImageSaveParams",),
    "generator": ("modules.images.FilenameGenerator",),
    "pp": ("modules.scripts.PostprocessImageArgs",),
}
IN_FILE: dict[str, dict[str, tuple[str, ...]]] = {
    "extras": {"pp": ("modules.scripts_postprocessing.PostprocessedImage",)},
    "xyz": {"grid": ("scripts.xyz_grid",)},
    "install": {"launch": ("launch",)},
}
# Our functions that ask for arguments of the host's function that comes first: by its name, or as keywords.
ASK_FOR_ARGUMENTS = {("host", "takes"), ("host", "known_to")}


@dataclass(frozen=True)
class Use:
    label: str  # as our code says it
    paths: tuple[str, ...]  # dotted; the host needs one of them
    place: str  # file and line
    asked: bool = False
    hook: bool = False  # a method of ours that the host is to call
    keyword: str = ""  # of a call
    positional: int = 0

    @property
    def file(self) -> str:
        return self.place.partition(":")[0]


Name = tuple[str, str]  # of a function of ours: its file and itself


@dataclass(frozen=True)
class Asker:
    """A function of ours that asks for a name which it is given at `position`, of what `owners` stand for."""

    owners: tuple[str, ...]
    position: int
    asks: bool  # False: it takes for granted that the host has it


def uses_of(repository: Path) -> list[Use]:
    """Every use, in the order of the files."""
    files = [*sorted((repository / "sdwebui_extension").glob("*.py")), repository / "install.py"]
    sources = [Source(file, repository) for file in files if file.is_file()]
    askers = {name: asker for source in sources for name, asker in source.askers.items()}
    capabilities = {name: uses for source in sources for name, uses in source.capabilities.items()}
    uses = [use for source in sources for use in source.uses(askers, capabilities)]
    return [use for use in uses if not use.paths[0].startswith(OWN_SETTINGS)]


class Source:
    """One file of the extension."""

    def __init__(self, file: Path, repository: Path) -> None:
        self.file = file.relative_to(repository).as_posix()
        self.stem = file.stem
        self.tree = ast.parse(file.read_text(encoding="utf-8"))
        self.stands_for = {**HANDED, **IN_FILE.get(self.stem, {})}  # a local name -> what it may be in the host
        self.imports: list[Use] = []
        self.ours: dict[str, Name] = {}  # functions of ours, by their local name
        tried = {id(node) for block in self._all(ast.Try) for part in block.body for node in ast.walk(part)}
        for node in self._all(ast.ImportFrom):
            for alias in node.names:
                self._import(node, alias.name, alias.asname or alias.name, asked=id(node) in tried)
        self.parents = {id(child): node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def _all(self, kind: type[ast.AST]) -> list[ast.AST]:
        return [node for node in ast.walk(self.tree) if isinstance(node, kind)]

    def _import(self, node: ast.ImportFrom, name: str, local: str, *, asked: bool) -> None:
        if node.level:
            self.ours[local] = (node.module or name, name)
        elif (node.module or "").split(".")[0] == "modules":
            target = f"{node.module}.{name}"
            self.stands_for[local] = (target,)
            self.imports.append(self._use((target,), node, asked=asked))

    def _use(self, paths: tuple[str, ...], node: ast.AST, label: str = "", **more: object) -> Use:
        return Use(label or label_of(paths[0]), paths, f"{self.file}:{getattr(node, 'lineno', 1)}", **more)

    def paths(self, node: ast.AST | None) -> tuple[str, ...]:
        """What an expression such as `shared.state` stands for in the host, () for what is ours."""
        first, *rest = dotted_parts(node) or [""]
        if first in HANDED:
            rest = rest[:1]  # what comes behind is known by its own class
        return tuple(".".join([owner, *rest]) for owner in self.stands_for.get(first, ()))

    def label(self, node: ast.AST, paths: tuple[str, ...]) -> str:
        parts = dotted_parts(node)
        return ".".join(parts[:2]) if parts[0] in HANDED else label_of(paths[0])

    # -- questions -----------------------------------------------------------------------------------------------

    @cached_property
    def askers(self) -> dict[Name, list[Asker]]:
        found: dict[Name, list[Asker]] = {}
        for function in self._all(Function):
            names = [argument.arg for argument in function.args.args]
            for owner, name, asks in _questions(function):
                if isinstance(name, ast.Name) and name.id in names and self._is_fixed(owner):
                    asker = Asker(self.paths(owner), names.index(name.id), asks)
                    found.setdefault((self.stem, function.name), []).append(asker)
        return found

    @cached_property
    def capabilities(self) -> dict[Name, list[Use]]:
        """What each function asks for by itself: by a literal, or all keys of the dictionary of defaults that it reads."""
        functions = self._all(Function)
        return {(self.stem, one.name): [*self._asked_literally(one), *self._asked_by_table(one)] for one in functions}

    def _asked_literally(self, tree: ast.AST) -> Iterator[Use]:
        for owner, name, asks in _questions(tree):
            if isinstance(name, ast.Constant) and self.paths(owner):
                below = tuple(f"{path}.{name.value}" for path in self.paths(owner))
                yield self._use(below, name, self.label(ast.Attribute(owner, name.value), below), asked=asks)

    def _asked_by_table(self, function: ast.AST) -> Iterator[Use]:
        for owner, name, asks in _questions(function):
            if isinstance(name, ast.Name) and self._is_fixed(owner):
                for key, node in self._keys(function, name.id):
                    yield self._use((f"{self.paths(owner)[0]}.{key}",), node, asked=asks)

    def _is_fixed(self, owner: ast.expr) -> bool:
        """Whether it is of the host, and not what the host hands over: that may hold anything for a while."""
        return bool(self.paths(owner)) and dotted_parts(owner)[0] not in HANDED

    def _keys(self, function: ast.AST, parameter: str) -> Iterator[tuple[str, ast.AST]]:
        """The keys of the dictionaries of this file that the function subscripts with its parameter."""
        tables = {
            ast.unparse(node.value)
            for node in ast.walk(function)
            if isinstance(node, ast.Subscript) and dotted_parts(node.slice) == [parameter]
        }
        for node in self._all(ast.AnnAssign):
            if ast.unparse(node.target) in tables and isinstance(node.value, ast.Dict):
                yield from ((key.value, key) for key in node.value.keys if isinstance(key, ast.Constant))

    # -- uses ----------------------------------------------------------------------------------------------------

    def uses(self, askers: dict[Name, list[Asker]], capabilities: dict[Name, list[Use]]) -> Iterator[Use]:
        yield from self.imports
        yield from self._asked_literally(self.tree)
        for function in self._all(Function):
            yield from self._asked_by_table(function)
        for node in self._all(ast.Attribute):
            yield from self._attribute(node)
        for node in self._all(ast.ClassDef):
            yield from self._class(node)
        for node in self._all(ast.Call):
            yield from self._call_of_ours(node, askers, capabilities)
            yield from self._forwarded(node)

    def _attribute(self, node: ast.Attribute) -> Iterator[Use]:
        paths, parent = self.paths(node), self.parents[id(node)]
        if not paths or (isinstance(parent, ast.Attribute) and self.paths(parent) != paths):
            return  # not of the host, or a part of a longer name
        label = self.label(node, paths)
        yield self._use(paths, node, label)
        parts = dotted_parts(node)
        if isinstance(parent, ast.Call) and parent.func is node and (parts[0] not in HANDED or len(parts) == 2):
            yield from self._arguments(parent, paths, label)

    def _arguments(self, call: ast.Call, paths: tuple[str, ...], label: str) -> Iterator[Use]:
        keywords = [keyword.arg for keyword in call.keywords if keyword.arg]
        yield from (self._use(paths, call, f"{label}({keyword}=)", keyword=keyword) for keyword in keywords)
        if call.args and not any(isinstance(argument, ast.Starred) for argument in call.args):
            count = len(call.args)
            yield self._use(paths, call, f"{label}({', '.join('_' * count)})", positional=count)

    def _class(self, node: ast.ClassDef) -> Iterator[Use]:
        """The hooks of our scripts, and what they use of the class they are made from."""
        bases = [path for base in node.bases for path in self.paths(base) if path in (SCRIPT, STEP)]
        if not bases:
            return
        own = {
            part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        }
        fields = [part for part in node.body if isinstance(part, (ast.Assign, ast.AnnAssign))]
        named = [part for field in fields for part in ast.walk(field) if isinstance(part, ast.Name)]
        own |= {part.id for part in named if isinstance(part.ctx, ast.Store)}
        for method in node.body:
            if isinstance(method, Function):
                own.add(method.name)
                if not method.name.startswith("_"):
                    yield self._use((f"{bases[0]}.{method.name}",), method, hook=True)
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and dotted_parts(part.value) == ["self"] and part.attr not in own:
                yield self._use((f"{bases[0]}.{part.attr}",), part)

    def _call_of_ours(
        self, node: ast.Call, askers: dict[Name, list[Asker]], capabilities: dict[Name, list[Use]]
    ) -> Iterator[Use]:
        *owner, name = dotted_parts(node.func) or [""]
        function = (owner[-1], name) if owner else self.ours.get(name, (self.stem, name))
        for use in capabilities.get(function, []):
            yield self._use(use.paths, node, use.label, asked=True)
        for asker in askers.get(function, []):
            text = node.args[asker.position] if len(node.args) > asker.position else None
            if isinstance(text, ast.Constant):
                paths = tuple(f"{path}.{text.value}" for path in asker.owners)
                yield self._use(paths, node, asked=asker.asks)
        if function in ASK_FOR_ARGUMENTS:
            yield from self._asked_arguments(node)

    def _asked_arguments(self, node: ast.Call) -> Iterator[Use]:
        paths = self.paths(node.args[0])
        texts = [text.value for text in node.args[1:] if isinstance(text, ast.Constant)]
        for keyword in [*texts, *(keyword.arg for keyword in node.keywords if keyword.arg)]:
            if paths:
                label = f"{self.label(node.args[0], paths)}({keyword}=)"
                yield self._use(paths, node, label, keyword=keyword, asked=True)

    def _forwarded(self, node: ast.Call) -> Iterator[Use]:
        """Arguments that a function of this file hands on to the host, and what is asked of the object it gives back."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in self._forwarders:
            return
        paths, own = self._forwarders[name]
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in own:
                yield self._use(paths, node, f"{label_of(paths[0])}({keyword.arg}=)", keyword=keyword.arg)
        parent = self.parents[id(node)]
        if isinstance(parent, ast.Attribute):
            yield self._use((f"{paths[0]}.{parent.attr}",), parent)

    @cached_property
    def _forwarders(self) -> dict[str, tuple[tuple[str, ...], set[str]]]:
        """Functions with `**more` that hand it on: what they call, and their own arguments."""
        found = {}
        for function in self._all(Function):
            more = function.args.kwarg
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and more):
                handed = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
                if more.arg in handed and self.paths(call.func):
                    found[function.name] = (self.paths(call.func), {a.arg for a in function.args.args})
        return found


def _questions(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """(whose, name, whether it may be missing) of each `hasattr` and `getattr`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            asks = node.func.id == "hasattr" or len(node.args) == 3
            yield node.args[0], node.args[1], asks


def label_of(path: str) -> str:
    """`Script.setup` of `modules.scripts.Script.setup`: as short as our code says it."""
    for long, short in LABELS.items():
        if path.startswith(f"{long}."):
            return f"{short}{path[len(long) :]}"
    return path.removeprefix("modules.")
