"""A real WebUI on a data folder of its own, with this checkout as its extension and a tiny random ImageReward."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

START_SECONDS = 240


@dataclass
class WebUI:
    """`root`: the host's checkout; `data`: outputs, settings and extensions; `checkpoint`: a Stable Diffusion model."""

    root: Path
    python: str
    data: Path
    models: Path
    checkpoint: Path
    extension: Path | None  # None: the host without us
    arguments: tuple[str, ...] = ()
    side: int = 128  # of the pictures
    steps: int = 2
    folder: str = "sd-image-reward"  # of this extension
    user: str | None = None  # "name:password"
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)
    boot_log: str = field(init=False, default="")

    default_arguments: ClassVar[str] = "--use-cpu all --no-half --precision full"
    defaults: ClassVar[dict[str, Any]] = {
        "return_mask": False,
        "save_mask": False,
    }  # of settings that not every host has

    @classmethod
    def checkpoint_maker(cls, root: Path, folder: Path) -> tuple[str, Path, list[str]]:
        """The script beside this one that makes a tiny model in `folder`, what it makes, and its arguments but the last."""
        return "make_checkpoint.py", folder / "random.safetensors", [str(root), str(folder)]

    def start(self) -> WebUI:
        (self.data / "extensions").mkdir(parents=True, exist_ok=True)
        if self.extension is not None and not self.extension_link.exists():
            self.extension_link.symlink_to(self.extension, target_is_directory=True)
        neighbours = self.data / "extensions" / "neighbours" / "scripts"
        neighbours.mkdir(parents=True, exist_ok=True)
        for name in ("wordcards.py", "nested.py", "frames.py"):
            shutil.copyfile(Path(__file__).with_name(name), neighbours / name)
        (self.data / "styles.csv").write_text("name,prompt,negative_prompt\npencil,drawn with a pencil,\n", "utf-8")
        (self.data / "config.json").write_text(json.dumps(self._config()), encoding="utf-8")
        self.log = self.data / "webui.log"
        self.port = _free_port()
        self.temporary.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "SD_WEBUI_RESTARTING": "1",  # no browser of its own
            "TMPDIR": str(self.temporary),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(), cwd=self.root, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.time() + START_SECONDS
        # The first request must not come before the host has added its middleware.
        while "Startup time" not in self.log.read_text(errors="replace") or not self.answers():
            if self.process.poll() is not None or time.time() > deadline:
                raise RuntimeError(f"the WebUI did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.5)
        self.boot_log = self.log.read_text(errors="replace")
        return self

    def _config(self) -> dict[str, Any]:
        return {"live_previews_enable": False}  # previews need a model that reForge would download

    def _command(self) -> list[str]:
        command = [self.python, "launch.py", "--skip-prepare-environment", "--skip-torch-cuda-test", "--api"]
        command += ["--no-download-sd-model", "--no-hashing", "--port", str(self.port)]
        command += ["--data-dir", str(self.data), "--models-dir", str(self.models), "--ckpt", str(self.checkpoint)]
        # Gradio 4 of Forge serves no file outside the data folder, so not the host's own scripts and style.
        return [*command, "--gradio-allowed-path", str(self.root), *self.arguments]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def temporary(self) -> Path:
        return self.data / "tmp"

    @property
    def extension_link(self) -> Path:
        return self.data / "extensions" / self.folder

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            self.call("/sdapi/v1/options")
        except (OSError, ValueError):
            return False
        return True

    # -- its API -------------------------------------------------------------------------------------------------

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        if self.user:
            request.add_header("Authorization", "Basic " + base64.b64encode(self.user.encode()).decode())
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read() or "null")

    def status(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """The status of a call and its JSON, errors included."""
        try:
            return 200, self.call(path, body)
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text.decode()

    def generate(
        self,
        *script_args: Any,
        script: str | None = "imagereward",
        way: str = "txt2img",
        accordion: tuple[Any, ...] | None = None,
        **more: Any,
    ) -> Any:
        """A run over the API. accordion: arguments of the accordion, which is off without them."""
        body = {"prompt": "a painting of a (cat:1.2)", "seed": 5, "steps": self.steps}
        body |= {"width": self.side, "height": self.side}
        body |= {"batch_size": 2, "n_iter": 2, "save_images": True, "sampler_name": "Euler"}
        if script is not None:
            body |= {"script_name": script, "script_args": list(script_args)}
        if accordion is not None:
            more["alwayson_scripts"] = {
                "imagereward accordion": {"args": list(accordion)},
                **more.get("alwayson_scripts", {}),
            }
        answer = self.call(f"/sdapi/v1/{way}", {**body, **more})
        return Result([open_base64(text) for text in answer["images"]], json.loads(answer["info"]))

    def set_options(self, **options: Any) -> None:
        self.call("/sdapi/v1/options", options)

    def folder_of(self, kind: str) -> str:
        """Name of the folder of a kind of outputs."""
        return kind

    def saved(self, kind: str = "txt2img-images") -> list[Path]:
        """Files of the outputs, oldest first."""
        folders = [self.data / "outputs" / self.folder_of(kind), self.data / "output" / self.folder_of(kind)]
        files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*")]
        files = [file for file in files if file.is_file() and file.suffix != ".tmp"]  # that is being written
        return sorted(files, key=lambda file: file.stat().st_mtime_ns)


@dataclass
class Result:
    images: list[Image.Image]
    info: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return self.info["infotexts"]

    @property
    def grids(self) -> int:
        return self.info["index_of_first_image"]


def open_base64(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def to_base64(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
