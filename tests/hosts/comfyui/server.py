"""A real ComfyUI server of the tests' own: started, asked, listened to, stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts.comfyui.websocket import Listener, strict_json

BOOT_SECONDS = 180
RUN_SECONDS = 300
OFFLINE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
ENDS = ("execution_success", "execution_error", "execution_interrupted")

Graph = dict[str, dict[str, Any]]
OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class Run:
    """What became of one graph."""

    status: str  # one of ENDS
    events: list[dict[str, Any]]
    outputs: dict[str, Any]  # of the history, by node
    node_errors: dict[str, Any] = field(default_factory=dict)  # of the validation

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == kind]

    @property
    def error(self) -> str:
        return str(self.of("execution_error")[0]["exception_message"])

    @property
    def executed(self) -> set[str]:
        """Nodes that ran; the cached ones did not."""
        return {data["node"] for data in self.of("executing") if data.get("node")}

    @property
    def cached(self) -> set[str]:
        return {node for data in self.of("execution_cached") for node in data["nodes"]}


class Server:
    def __init__(
        self, comfyui: Path, python: str, base: Path, *more: str, environment: dict[str, str] | None = None
    ) -> None:
        """more: further arguments of the command line."""
        self.base = base
        self.port = _free_port()
        self.log_path = base / f"server-{self.port}.log"
        arguments = ["--cpu", "--port", str(self.port), "--base-directory", str(base), "--disable-api-nodes", *more]
        arguments += ["--database-url", f"sqlite:///{base / f'comfyui-{self.port}.db'}"]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "main.py", *arguments],
                cwd=comfyui,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **OFFLINE, "HF_HOME": str(base / "hf"), **(environment or {})},
            )
        self._wait_until_up()

    # -- asking --------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return strict_json(answer.read())

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return strict_json(text) if text else None

    def run(self, graph: Graph, *, workflow: Any = None, on_event: OnEvent | None = None) -> Run:
        """Posts a graph and listens until it ends. A graph that fails the validation gives its node errors."""
        client = uuid.uuid4().hex
        listener = Listener("127.0.0.1", self.port, client, RUN_SECONDS)
        try:
            extra = {"extra_pnginfo": {"workflow": workflow}} if workflow is not None else {}
            prompt_id = self.post("/prompt", {"prompt": graph, "client_id": client, "extra_data": extra})["prompt_id"]
            events = _listen(listener, prompt_id, on_event)
        except urllib.error.HTTPError as error:
            refused = strict_json(error.read())
            return Run("refused", [], {}, refused.get("node_errors") or refused)
        finally:
            listener.close()
        return Run(events[-1]["type"], events, self._history(prompt_id).get("outputs", {}))

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def free(self) -> None:
        """What the buttons 'Unload models' and 'Free model and node cache' ask for."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def file(self, saved: dict[str, str]) -> Path:
        """The file of an entry such as {"filename": .., "subfolder": .., "type": "output"}."""
        return self.base / saved["type"] / saved["subfolder"] / saved["filename"]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"ComfyUI did not answer within {BOOT_SECONDS} s:\n{self.log()[-3000:]}")

    def _history(self, prompt_id: str) -> dict[str, Any]:
        """The history is written a moment after the last event."""
        for _ in range(100):
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                found: dict[str, Any] = history[prompt_id]
                return found
            time.sleep(0.05)
        raise RuntimeError("the run never reached the history")


def _listen(listener: Listener, prompt_id: str, on_event: OnEvent | None) -> list[dict[str, Any]]:
    events = []
    while not (events and events[-1]["type"] in ENDS):
        event = listener.next()
        if event.get("data", {}).get("prompt_id") == prompt_id:
            events.append(event)
            if on_event is not None:
                on_event(event)
    return events


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
