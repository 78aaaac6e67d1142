"""Run by the host's Python: every class and function of the stand-ins exists in the host and takes what the stand-in takes.

And what the stand-ins compute (names of layers, noise levels, samplers) is what the host computes."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from entering import enter_host, tiny_models

# Only the stand-ins have these: they set a test up, record what was asked, or stand where the host has a method or a product.
OWN = {
    "comfy.ldm.modules.diffusionmodules.mmdit.FREQUENCIES",
    "comfy.ldm.modules.diffusionmodules.mmdit.unpatchify",
    "comfy.ldm.flux.model.FREQUENCIES",
    "comfy.model_management.cpu",
    "comfy.model_management.interrupted",
    "comfy.model_management.requests",
    "comfy.model_management.reset",
    "comfy.utils.on_update",
    "comfy.utils.previews",
    "comfy.utils.reset",
    "comfy.utils.shown",
    "folder_paths.use",
}
SKIPPED_FILES = {"run_node.py", "node_texts.py"}


def differences(fakes: Path) -> Iterator[str]:
    for file in sorted(fakes.rglob("*.py")):
        if file.name in SKIPPED_FILES:
            continue
        name = ".".join(file.relative_to(fakes).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        yield from _compare(name, ast.parse(file.read_text(encoding="utf-8")).body, module)


def _compare(where: str, body: list[ast.stmt], real: Any) -> Iterator[str]:
    for statement in body:
        for defined in _names(statement):
            name = f"{where}.{defined}"
            if name in OWN or (defined.startswith("_") and not defined.startswith("__")):
                continue
            if not hasattr(real, defined) and defined not in getattr(real, "__dataclass_fields__", {}):
                yield f"{name} is not in the host"
                continue
            found = getattr(real, defined, None)
            if isinstance(statement, ast.ClassDef):
                yield from _compare(name, statement.body, found)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _arguments(name, statement, found)


def _names(statement: ast.stmt) -> Iterator[str]:
    """What a statement defines, but for annotations without a value, which say what an instance has."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _arguments(name: str, fake: ast.FunctionDef | ast.AsyncFunctionDef, real: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(real).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    ours = [one.arg for one in [*fake.args.args, *fake.args.kwonlyargs] if one.arg not in ("self", "cls")]
    for one in ours:
        if one not in parameters:
            yield f"{name} takes no {one!r} in the host, but {list(parameters)}"


def other_numbers(fakes: Path) -> Iterator[str]:
    """Names and numbers that the stand-ins compute and that are not the host's."""
    import comfy.utils
    import torch
    from comfy import model_sampling, samplers
    from comfy.k_diffusion import sampling

    ours = {name: _loaded(fakes / "comfy" / f"{name}.py") for name in ("utils", "model_sampling", "samplers")}
    ours_of_k = _loaded(fakes / "comfy" / "k_diffusion" / "sampling.py")
    for unet in (network for _, network in tiny_models().KINDS.values()):
        names = comfy.utils.unet_to_diffusers(unet)
        for theirs, own in ours["utils"].unet_to_diffusers(unet).items():
            if names.get(theirs) != own:
                yield f"unet_to_diffusers: {theirs} is {names.get(theirs)} in the host, not {own}"
    x, output = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def near_zero(latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return 0.1 * latents.tanh()

    def equal(what: str, one: torch.Tensor, other: torch.Tensor) -> Iterator[str]:
        if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
            yield f"{what} gives other numbers in the host"

    for levels, kind in (
        ("Discrete", "EPS"),
        ("Discrete", "V_PREDICTION"),
        ("DiscreteFlow", "CONST"),
        ("Flux", "CONST"),
    ):
        host, fake = (
            type("Both", (getattr(one, f"ModelSampling{levels}"), getattr(one, kind)), {})(_Settings())
            for one in (model_sampling, ours["model_sampling"])
        )
        sigma = host.sigmas[[300, 700]]
        yield from equal(f"{levels}.sigmas", host.sigmas, fake.sigmas)
        yield from equal(f"{levels}.timestep", host.timestep(sigma).float(), fake.timestep(sigma).float())
        yield from equal(f"{kind}.calculate_input", host.calculate_input(sigma, x), fake.calculate_input(sigma, x))
        for method, given in (
            ("calculate_denoised", (sigma, output, x)),
            ("noise_scaling", (sigma, x.clone(), output, True)),
            ("noise_scaling", (sigma, x.clone(), output, False)),
            ("inverse_noise_scaling", (sigma, x)),
        ):
            yield from equal(f"{kind}.{method}", getattr(host, method)(*given), getattr(fake, method)(*given))
        for scheduler in ours["samplers"].SCHEDULER_NAMES:
            for steps in (1, 7, 40):
                both = (one.calculate_sigmas(host, scheduler, steps) for one in (samplers, ours["samplers"]))
                yield from equal(f"{scheduler} with {steps} steps", *both)
    sigmas = torch.tensor([9.0, 3.0, 1.0, 0.0])
    yield from equal(
        "sample_euler", *(one.sample_euler(near_zero, x, sigmas, disable=True) for one in (sampling, ours_of_k))
    )
    noises = {"noise_sampler": lambda *_: output, "disable": True}
    yield from equal("sample_ddpm", *(one.sample_ddpm(near_zero, x, sigmas, **noises) for one in (sampling, ours_of_k)))


class _Settings:
    """As of a model's configuration."""

    sampling_settings: ClassVar = {"shift": 1.7}


def _loaded(file: Path) -> Any:
    """A stand-in's file beside the host; what it imports is the host's."""
    spec = importlib.util.spec_from_file_location(f"fake_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    fakes, comfyui = Path(sys.argv[1]), sys.argv[2]
    enter_host(comfyui)
    found = [*differences(fakes), *other_numbers(fakes)]
    print("\n".join(found))
    sys.exit(bool(found))
