"""A host's checkout, read by `ast`: its modules, names, classes, settings and flags."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Where hosts keep their own code: settings and flags are looked for in these alone, not in extensions.
OWN_CODE = (
    "modules",
    "modules_forge",
    "backend/args.py",
    "ldm_patched/modules/args_parser.py",
    "scripts",
    "installer.py",
)


@dataclass(frozen=True)
class Alias:
    """A name that an import made."""

    target: str  # dotted


@dataclass(frozen=True)
class Found:
    module: Module
    node: ast.AST | Alias  # an Alias where the import leads out of the checkout

    @property
    def place(self) -> str:
        return f"{self.module.file}:{getattr(self.node, 'lineno', 1)}"


class Module:
    def __init__(self, name: str, path: Path, root: Path) -> None:
        self.name = name
        self.file = path.relative_to(root).as_posix()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the host's own regular expressions
            self.tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))

    @cached_property
    def names(self) -> dict[str, ast.AST | Alias]:
        """What the module offers at its top, below `if`, `try` and `with`, and by `global`."""
        found: dict[str, ast.AST | Alias] = {}
        for node in _statements(self.tree.body):
            found.update(_defined(node))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Global):
                for name in node.names:
                    found.setdefault(name, node)
        return found

    @cached_property
    def star_imports(self) -> list[str]:
        return [
            node.module
            for node in _statements(self.tree.body)
            if isinstance(node, ast.ImportFrom) and node.module and node.names[0].name == "*"
        ]


class Checkout:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module | None] = {}

    # -- names ---------------------------------------------------------------------------------------------------

    def module(self, dotted: str) -> Module | None:
        if dotted not in self._modules:
            base = self.root.joinpath(*dotted.split("."))
            files = [file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()]
            self._modules[dotted] = Module(dotted, files[0], self.root) if files else None
        return self._modules[dotted]

    def find(self, dotted: str) -> Found | None:
        """What a dotted name stands for: a module, a name of one, or a member of a class or of an instance."""
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            module = self.module(".".join(parts[:count]))
            if module is not None:
                return self._below(Found(module, module.tree), parts[count:])
        return None

    def _below(self, found: Found | None, parts: list[str]) -> Found | None:
        for part in parts:
            if found is None:
                return None
            found = self._name(found.module, part) if found.node is found.module.tree else self.member(found, part)
        return found

    def _name(self, module: Module, name: str, depth: int = 8) -> Found | None:
        """A name of a module, through the modules it is imported from."""
        if name not in module.names:
            others = (self.module(dotted) for dotted in module.star_imports)
            found = (self._name(other, name, depth - 1) for other in others if other is not None and depth)
            submodule = self.module(f"{module.name}.{name}")
            return next(filter(None, found), Found(submodule, submodule.tree) if submodule else None)
        node = module.names[name]
        if isinstance(node, Alias) and depth:
            return self._imported(node, depth) or Found(module, node)
        if isinstance(node, (ast.Name, ast.Attribute)):  # fix_seed = processing_helpers.fix_seed
            return self.named_by(node, module) or Found(module, node)
        return Found(module, node)

    def _imported(self, alias: Alias, depth: int) -> Found | None:
        module = self.module(alias.target)
        if module is not None:
            return Found(module, module.tree)
        owner, _, name = alias.target.rpartition(".")
        module = self.module(owner) if owner else None
        return None if module is None else self._name(module, name, depth - 1)

    def is_beyond_reading(self, dotted: str) -> bool:
        """Whether the name is of something that the host has but whose class cannot be told, an argparse namespace, say."""
        parts = dotted.split(".")
        for count in range(len(parts) - 1, 0, -1):
            owner = self.find(".".join(parts[:count]))
            if owner is not None:
                return owner.node is not owner.module.tree and self.class_of(owner) is None
        return False

    def named_by(self, expression: ast.expr | None, module: Module) -> Found | None:
        """What an expression such as `options.Options` or `"shared_state.State"` in a module stands for."""
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            expression = ast.parse(expression.value, mode="eval").body
        parts = dotted_parts(expression)
        if not parts:
            return None
        if parts[0] in module.names:
            return self._below(Found(module, module.tree), parts)
        return self.find(".".join(["modules", *parts]))  # an annotation may name a module that is imported elsewhere

    # -- classes -------------------------------------------------------------------------------------------------

    def member(self, owner: Found, name: str) -> Found | None:
        of = self.class_of(owner)
        return None if of is None else self.members(of).get(name)

    def class_of(self, found: Found) -> Found | None:
        """The class itself, or that of an instance: `state: State = ...` or `state = State(...)`."""
        if isinstance(found.node, ast.ClassDef):
            return found
        annotation = getattr(found.node, "annotation", None)
        made_by = found.node.func if isinstance(found.node, ast.Call) else None
        for expression in (annotation, made_by):
            of = self.named_by(expression, found.module)
            if of is not None and isinstance(of.node, ast.ClassDef):
                return of
        return None

    def members(self, of: Found) -> dict[str, Found]:
        """Methods, fields, and what the methods store on `self`, those of the bases first."""
        assert isinstance(of.node, ast.ClassDef)
        found: dict[str, Found] = {}
        for expression in of.node.bases:
            base = self.named_by(expression, of.module)
            if base is not None and isinstance(base.node, ast.ClassDef) and base.node is not of.node:
                found |= self.members(base)
        for node in of.node.body:
            found |= {name: Found(of.module, value) for name, value in _defined(node).items()}
            if isinstance(node, Function):
                found |= {name: Found(of.module, at) for name, at in _stored(node, "self") if name not in found}
        return found

    # -- the whole -----------------------------------------------------------------------------------------------

    @cached_property
    def own_modules(self) -> list[Module]:
        files = (
            file
            for part in OWN_CODE
            for file in ([self.root / part] if part.endswith(".py") else sorted((self.root / part).rglob("*.py")))
            if file.is_file()
        )
        names = (
            ".".join(file.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__") for file in files
        )
        return [module for name in names if (module := self.module(name)) is not None]

    @cached_property
    def flags(self) -> set[str]:
        """`models_dir` for `--models-dir`."""
        calls = [call for _, call in self._calls("add_argument")]
        texts = [node for call in calls for node in (*call.args, *(k.value for k in call.keywords if k.arg == "dest"))]
        return {str(node.value).lstrip("-").replace("-", "_") for node in texts if isinstance(node, ast.Constant)}

    @cached_property
    def settings(self) -> set[str]:
        """Keys of the settings: `{"samples_save": OptionInfo(...)}`."""
        tables = [node for module in self.own_modules for node in ast.walk(module.tree) if isinstance(node, ast.Dict)]
        pairs = [pair for table in tables for pair in zip(table.keys, table.values, strict=True)]
        return {str(key.value) for key, value in pairs if isinstance(key, ast.Constant) and _is_setting(value)}

    @cached_property
    def stored_on_p(self) -> set[str]:
        """What the host writes onto a processing object besides the fields of its class."""
        return {name for module in self.own_modules for name, _ in _stored(module.tree, "p")}

    def calls_method(self, name: str, *, outside: Module | None = None) -> bool:
        """Whether something is called by that name, in a module other than `outside`."""
        return any(module is not outside for module, _ in self._calls(name))

    @staticmethod
    def names_hook(runner: Module, name: str) -> bool:
        """Whether the module that runs scripts calls the hook of a script, by attribute or by its name as a text."""
        return any(
            (isinstance(node, ast.Attribute) and node.attr == name and dotted_parts(node.value) == ["script"])
            or (isinstance(node, ast.Constant) and node.value == name)
            for node in ast.walk(runner.tree)
        )

    @cached_property
    def _calls_by_name(self) -> dict[str, list[tuple[Module, ast.Call]]]:
        found: dict[str, list[tuple[Module, ast.Call]]] = {}
        for module in self.own_modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    found.setdefault(node.func.attr, []).append((module, node))
        return found

    def _calls(self, name: str) -> list[tuple[Module, ast.Call]]:
        return self._calls_by_name.get(name, [])


def why_not(function: ast.AST | Alias, positional: int, keywords: list[str], *, bound: bool) -> str:
    """Why a call does not fit a function; "" if it does, or if that cannot be told."""
    if not isinstance(function, Function):
        return ""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][bound:]
    if positional > len(names) and arguments.vararg is None:
        return f"takes {len(names)} positional arguments, not {positional}"
    known = {*names, *(a.arg for a in arguments.kwonlyargs)}
    unknown = [keyword for keyword in keywords if keyword not in known]
    return f"takes no {', '.join(unknown)}" if unknown and arguments.kwarg is None else ""


def dotted_parts(node: ast.AST | None) -> list[str]:
    """["shared", "state"] of the expression `shared.state`; [] of any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [*reversed([*parts, node.id])] if isinstance(node, ast.Name) else []


def _is_setting(node: ast.expr) -> bool:
    """`OptionInfo(...)`, also below methods that say more: `.info(...).needs_restart()`."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        node = node.func.value
    return isinstance(node, ast.Call) and dotted_parts(node.func)[-1:] in (["OptionInfo"], ["LegacyOption"])


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _defined(node: ast.stmt) -> dict[str, ast.AST | Alias]:
    """Names that one statement makes."""
    if isinstance(node, (ast.ClassDef, *Function.__args__)):
        return {node.name: node}
    if isinstance(node, ast.Assign):
        parts = [part for target in node.targets for part in ast.walk(target)]
        return {part.id: node.value for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id: node}
    if isinstance(node, ast.Import):
        return {
            a.asname or a.name.split(".")[0]: Alias(a.name if a.asname else a.name.split(".")[0]) for a in node.names
        }
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {a.asname or a.name: Alias(f"{node.module}.{a.name}") for a in node.names if a.name != "*"}
    return {}


def _stored(tree: ast.AST, owner: str) -> Iterator[tuple[str, ast.Attribute]]:
    """Attributes that are written on the variable `owner`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted_parts(node.value) == [owner]:
            yield node.attr, node
