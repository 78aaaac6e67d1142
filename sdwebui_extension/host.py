"""All that hosts differ in, as questions about what a host has, and the guarded door through which it calls us.

No other file knows a host by name: it asks here whether a hook, an argument, a setting or a flag is there.
"""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import gradio as gr
import torch
from modules import devices, paths, processing, scripts, scripts_postprocessing, shared

from ..core.files.console import Console

P = ParamSpec("P")

# -- the door ------------------------------------------------------------------------------------------------------

_told: set[tuple[str, str]] = set()


def guarded(doing: str, otherwise: Callable[[], Any] = lambda: None) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Decorates what the host calls: an exception ends here, and the host gets `otherwise()` instead.

    Many hosts call a hook without a guard of their own, and lose the image, the page or every answer of their API with it.

    Args:
        doing: what fails then, to stand after "could not".
        otherwise: makes the value that means "nothing" to the host.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Any]:
        @functools.wraps(function)
        def door(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                tell(doing, error)
                return otherwise()

        door.is_guarded = True  # type: ignore[attr-defined]  # for the test that no method is forgotten
        return door

    return decorate


def tell(doing: str, error: Exception) -> None:
    """A line in the console and the traceback; each failure once, as a hook would repeat it for every image."""
    reason = f"{type(error).__name__}: {error}"
    if (doing, reason) in _told:
        return
    _told.add((doing, reason))
    log(f"could not {doing} ({reason}); the WebUI goes on without it. Please report it with the lines below.")
    log("".join(traceback.format_exception(error)).rstrip())


# -- what the host has ---------------------------------------------------------------------------------------------


def has_hook(name: str) -> bool:
    """Whether scripts of this host have the method: one that they have not is never called."""
    return hasattr(scripts.Script, name)


def takes(function: Callable[..., Any], parameter: str) -> bool:
    """Whether a function of the host takes the argument, by name."""
    parameters = inspect.signature(function).parameters
    return parameter in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def known_to(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that a function of the host takes."""
    return {name: value for name, value in arguments.items() if takes(function, name)}


# The hooks that see an image alone, in their order. Behind the earlier one some hosts still grade, overlay and resize.
IMAGE_HOOKS = ("postprocess_image", "postprocess_image_after_composite")


def last_image_hook() -> str:
    """The last hook of this host that sees each image, "" if none does."""
    return next(filter(has_hook, reversed(IMAGE_HOOKS)), "")


def finishes_images_later() -> bool:
    """Whether the host may still make another image of one, behind the last hook that sees it."""
    return last_image_hook() != IMAGE_HOOKS[-1]


def asks_for_values() -> bool:
    """Whether a value in `extra_generation_params` may be a function, which the host calls for each text it makes."""
    return takes(processing.create_infotext, "use_main_prompt")


def restricts_settings() -> bool:
    """Whether the host can keep callers of its API from changing a setting; some swallow the argument."""
    return "restrict_api" in inspect.signature(shared.OptionInfo).parameters


def has_first_pass() -> bool:
    """Whether a step of *Extras* sees each image before any step changes it, and is drawn without an accordion around it."""
    return hasattr(scripts_postprocessing.ScriptPostprocessing, "process_firstpass")


def in_plot(p: Any) -> bool:
    """Whether an always-on script makes a plot of this generation; its cells are copies of `p`."""
    return bool(getattr(p, "xyz", False))


def chosen_script(p: Any) -> Any:
    """The script of the dropdown that `p` is generated with; None without one."""
    arguments = getattr(p, "script_args", None)
    index = arguments[0] if isinstance(arguments, (list, tuple)) and arguments else 0
    offered = getattr(getattr(p, "scripts", None), "selectable_scripts", [])
    return offered[index - 1] if isinstance(index, int) and 0 < index <= len(offered) else None


def sets_up_scripts() -> bool:
    """Whether the host calls `setup` of its scripts before one of them runs; some define it and never do."""
    return hasattr(scripts.ScriptRunner, "setup_scrips")


def offer_on_every_tab(*titles: str) -> None:
    """Some hosts show on a tab only the scripts of a list; ours make do with any tab."""
    listed = getattr(sys.modules.get("installer"), "control_extensions", None)
    if isinstance(listed, list):
        listed.extend(title for title in titles if title not in listed)


def pasted(fields: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """`infotext_fields` for every host: some take nothing but an update, or None, from a function, and fail with the rest."""
    return [(component, key if isinstance(key, str) else _updating(key)) for component, key in fields]


def _updating(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @guarded("read the settings of a picture")
    def paste(found: Any) -> Any:
        value = read(found)
        return gr.update(value=value) if value is not None else None

    return paste


def after_component(script: Any, callback: Callable[[Any], None], elem_id: str) -> None:
    """`callback(on_component)` once the host has made a component of its page; never where it cannot tell.

    elem_id: with `{tab}` in the place of the tab's name.
    """
    if has_hook("on_after_component"):
        elem_id = elem_id.format(tab=script.tabname)
        script.on_after_component(guarded(f"follow {elem_id} of the page")(callback), elem_id=elem_id)


# -- its API -------------------------------------------------------------------------------------------------------

TXT2IMG = "/sdapi/v1/txt2img"


def add_route(app: Any, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
    """Adds a route beside the host's own, behind the same passwords; none where the host has no API.

    The host's own means comes first: it knows the users, and the paths below which the API is served.
    """
    api: Any = getattr(shared, "api", None)
    if hasattr(api, "add_api_route"):
        api.add_api_route(path, endpoint, **more)
        return
    for route in app.routes:
        if getattr(route, "path", None) == TXT2IMG:
            if len(route.dependant.dependencies) == len(route.dependencies):
                app.add_api_route(path, endpoint, dependencies=list(route.dependencies), **more)
            else:  # it asks for the password in a way of its own, so that ours would stand open
                log(f"{path} is not offered: how this WebUI protects {TXT2IMG} is not known.")
            return


# -- settings and command line -------------------------------------------------------------------------------------

# Every setting of the host that is read, with what holds where it has none of that name.
OPTIONS: dict[str, Any] = {
    "enable_pnginfo": True,
    "grid_extended_filename": False,
    "grid_format": "png",
    "grid_only_if_multiple": True,
    "grid_save": True,
    "outdir_control_samples": "",
    "outdir_extras_samples": "",
    "outdir_img2img_samples": "",
    "outdir_samples": "",
    "outdir_save": "",
    "outdir_txt2img_samples": "",
    "return_grid": True,
    "return_mask": False,
    "return_mask_composite": False,
}

# Every flag of its command line, likewise.
FLAGS: dict[str, Any] = {
    "cors_allow_origins": None,
    "cors_allow_origins_regex": None,
    "cors_origins": None,
    "cors_regex": None,
    "listen": False,
    "ngrok": None,
    "server_name": None,
    "share": False,
}


def option(key: str, p: Any = None) -> Any:
    """A setting of the host; with `p` as it was during that generation, whose caller may override it."""
    default = OPTIONS[key]
    overridden = getattr(p, "override_settings", {}).get(key)
    chosen = getattr(p, key, None) if overridden is None else overridden  # some hosts keep them on `p` itself
    return getattr(shared.opts, key, default) if chosen is None else chosen


def own_option(key: str) -> Any:
    """A setting of this extension, None where the host holds none."""
    return getattr(shared.opts, key, None)


def set_own_option(key: str, value: Any) -> None:
    """Changes and saves a setting of this extension, where the host lets its settings be changed."""
    try:
        shared.opts.set(key, value)
        shared.opts.save(**known_to(shared.opts.save, filename=shared.config_filename))
    except (AssertionError, AttributeError, OSError) as error:  # frozen by the command line; lacking; a full disk
        log(f"the setting {key} is not saved: {error}")


def flag(name: str) -> Any:
    """A flag of the host's command line."""
    default = FLAGS[name]
    return getattr(shared.cmd_opts, name, default)


OUTPUT_FOLDERS = (
    "outdir_samples",
    "outdir_txt2img_samples",
    "outdir_img2img_samples",
    "outdir_control_samples",
    "outdir_extras_samples",
    "outdir_save",
)


def output_folders() -> list[Path]:
    """Where the settings let the host save pictures, whether the folders exist or not."""
    base = option("outdir_samples")
    below_base = getattr(paths, "resolve_output_path", lambda _base, folder: folder)
    chosen = filter(None, (below_base(base, option(name)) for name in OUTPUT_FOLDERS))
    return [Path(paths.data_path) / folder for folder in chosen]


# -- a generation that is going on ---------------------------------------------------------------------------------


def interrupted() -> bool:
    """Whether the user wants it to end now."""
    return bool(getattr(shared.state, "interrupted", False))


def stopping() -> bool:
    """Whether the user wants it to end, now or after the current image."""
    return interrupted() or bool(getattr(shared.state, "stopping_generation", False))


def say(text: str) -> None:
    """What the progress bar shows."""
    shared.state.textinfo = text


def jobs() -> int:
    """How many steps (batches, and their second passes) the progress bar counts to."""
    return int(getattr(shared.state, "job_count", 0))


def expect_jobs(count: int) -> None:
    shared.state.job_count = count


def of_image(p: Any, name: str, position: int) -> Any:
    """The item of an image in one of the batch's lists (`prompts`, `seeds`, ...).

    Where a batch yields more images than prompts (frames of a video), hosts go on with the last one.
    """
    items = getattr(p, name)
    return items[min(position, len(items) - 1)]


def comment(p: Any, text: str) -> None:
    """A line under the gallery, where the host has such lines."""
    if hasattr(p, "comment"):
        p.comment(text)


def log(text: str) -> None:
    """A line in the WebUI's console; never raises, whatever the console's code page lacks and even if there is none."""
    print(f"[ImageReward] {text}", file=Console(sys.stdout))


# -- memory --------------------------------------------------------------------------------------------------------

# Memory managers of those hosts that have one.
MEMORY_MANAGERS = ("backend.memory_management", "ldm_patched.modules.model_management")


def device() -> torch.device:
    """The device that the host generates on."""
    return torch.device(getattr(devices, "device", "cpu"))


def free_memory(needed: int, on: torch.device) -> None:
    """Asks the host to leave `needed` bytes free on a device, by whatever means it has."""
    for name in MEMORY_MANAGERS:
        free = getattr(sys.modules.get(name), "free_memory", None)
        if free is not None:
            free(needed, on)
            break
    collect()


def collect() -> None:
    """Lets the host's allocator give back what is free."""
    if hasattr(devices, "torch_gc"):
        devices.torch_gc()
