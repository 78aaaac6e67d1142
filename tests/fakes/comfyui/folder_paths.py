"""Stand-in of ComfyUI's `folder_paths`: the folders lie below `base_path`, which a test sets with `use`."""

from __future__ import annotations

import os

base_path = ""
models_dir = ""
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}


def use(base: str | os.PathLike[str]) -> None:
    global base_path, models_dir
    base_path = os.fspath(base)
    models_dir = os.path.join(base_path, "models")
    folder_names_and_paths.clear()
    folder_names_and_paths["loras"] = ([os.path.join(models_dir, "loras")], {".safetensors"})
    for folder in (get_input_directory(), get_output_directory(), get_temp_directory()):
        os.makedirs(folder, exist_ok=True)


def get_input_directory() -> str:
    return os.path.join(base_path, "input")


def get_output_directory() -> str:
    return os.path.join(base_path, "output")


def get_temp_directory() -> str:
    return os.path.join(base_path, "temp")


def get_input_subfolders() -> list[str]:
    top = get_input_directory()
    return sorted(name for name in os.listdir(top) if os.path.isdir(os.path.join(top, name)))


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path not in paths:
        paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return folder_names_and_paths[folder_name][0][:]


def get_filename_list(folder_name: str) -> list[str]:
    paths, endings = folder_names_and_paths[folder_name]
    found = [name for path in paths if os.path.isdir(path) for name in os.listdir(path)]
    return sorted(name for name in found if os.path.splitext(name)[1] in endings)


def get_full_path(folder_name: str, filename: str) -> str | None:
    for path in get_folder_paths(folder_name):
        if os.path.isfile(os.path.join(path, filename)):
            return os.path.join(path, filename)
    return None


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    filename_prefix = filename_prefix.replace("%width%", str(image_width)).replace("%height%", str(image_height))
    subfolder, filename = os.path.split(os.path.normpath(filename_prefix))
    folder = os.path.join(output_dir, subfolder)
    os.makedirs(folder, exist_ok=True)
    numbers = [
        int(name[len(filename) + 1 :].split("_")[0]) for name in os.listdir(folder) if name.startswith(filename + "_")
    ]
    return folder, filename, max(numbers, default=0) + 1, subfolder, filename_prefix
