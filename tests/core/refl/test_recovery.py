"""What a run does with damaged files and with writes that are refused: it goes on, and says what it did."""

from __future__ import annotations

import os
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.files import atomic
from sd_imagereward.core.refl import Observer, ReflConfig, ReflTrainer, read_lora
from sd_imagereward.core.refl.guard import ENDS
from sd_imagereward.core.refl.lora_files import lora_from_tensors
from sd_imagereward.core.refl.run_folder import RunFolder
from sd_imagereward.core.training import states
from sd_imagereward.core.training.states import load_state, save_state
from toy_generator import ColourScorer, ToyGenerator

pytest.importorskip("yaml", reason="run folders hold YAML")

CONFIG = ReflConfig(
    prompts=("a cat", "a dog"),
    steps=4,
    accumulation=1,
    learning_rate=1e-2,
    lora_rank=2,
    denoising_steps=4,
    stop_window=(2, 3),
    evaluate_every=1,
    evaluation_images=2,
    checkpoint_every=1,
    dtype="float32",
    tracker="none",
    model="toy",
)


class Ear(Observer):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)


def trainer_of(config: ReflConfig, *, resume: bool = False) -> tuple[ReflTrainer, list[str]]:
    ear = Ear()
    trainer = ReflTrainer(
        ToyGenerator(), ColourScorer(0), config, held_out=ColourScorer(0), observers=(ear,), resume=resume
    )
    return trainer, ear.messages


def go_on(folder: Path, steps: int = 6) -> tuple[ReflTrainer, Any, list[str]]:
    trainer, messages = trainer_of(RunFolder(folder).config().but(output=str(folder), steps=steps), resume=True)
    return trainer, trainer.train(), messages


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four updates, with the checkpoints of the last two."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trainer_of(CONFIG.but(output=str(folder)))[0].train()
    assert [path.name for path in RunFolder(folder).checkpoints.paths()] == ["update-00000003.pt", "update-00000004.pt"]
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def expected(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights after six updates."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("expected") / "run"))
    return go_on(folder)[0].tuning.state()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, in the middle of a tensor: the archive still opens."""
    with zipfile.ZipFile(path) as archive:
        tensor = archive.read(next(name for name in archive.namelist() if name.endswith("data/0")))
    data = bytearray(path.read_bytes())
    data[data.index(tensor) + len(tensor) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def older(path: Path) -> None:
    state = load_state(path)
    del state["guard"]
    save_state(state, path)


def program(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Identity()), str(path))


DAMAGES = [cut, flip, empty, older, program]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_the_updates_since_the_one_before(
    run: Path, expected: dict[str, torch.Tensor], damage: Callable[[Path], None]
) -> None:
    damage(run / "checkpoints" / "update-00000004.pt")
    trainer, result, messages = go_on(run)
    assert "update-00000004.pt" in messages[0]
    assert "going on from the checkpoint before it, after 3 updates" in messages[0]
    assert result.updates == 6
    for name, tensor in trainer.tuning.state().items():
        assert torch.equal(tensor, expected[name]), name
    assert (run / "checkpoints" / "update-00000004.damaged").is_file()
    assert [record["update"] for record in RunFolder(run).records()[0]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("damage", DAMAGES)
def test_with_no_checkpoint_left_the_error_names_them_all(run: Path, damage: Callable[[Path], None]) -> None:
    for path in RunFolder(run).checkpoints.paths():
        damage(path)
    with pytest.raises(ImageRewardError, match=r"no checkpoint of .* can be used.*update-00000004.*update-00000003"):
        go_on(run)


@pytest.mark.parametrize("damage", [cut, flip, empty, program, Path.unlink])
def test_lost_best_weights_are_reported_and_the_next_evaluation_counts(
    run: Path, damage: Callable[[Path], None]
) -> None:
    damage(run / "best.pt")
    _, result, messages = go_on(run)
    assert "the best weights so far are lost" in messages[0]
    assert [evaluation.update for evaluation in result.evaluations] == [0, 4, 5, 6]
    assert result.best is not None
    assert result.best.update >= 4
    assert lora_from_tensors(read_lora(result.files[0]).tensors, ToyGenerator().layers()).names


@pytest.mark.parametrize("ema", [False, True])
def test_best_weights_that_are_lost_at_the_end_are_those_of_now(
    ema: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, messages = trainer_of(CONFIG.but(output=str(tmp_path / "run"), evaluate_every=2, sweep=False, ema=ema))
    best = trainer.best_weights
    monkeypatch.setattr(best, "read", unreadable_once(best.read, tmp_path / "run" / "best.pt"))
    result = trainer.train()
    assert any("the best weights are lost" in text for text in messages)
    assert result.best.update == 4
    kept, now = best.read(), trainer.tuning.state()
    assert all(torch.equal(kept[name], tensor) for name, tensor in now.items()), "with an average, that is now's"


def unreadable_once(read: Callable[[], Any], path: Path) -> Callable[[], Any]:
    calls: list[int] = []

    def wrapped() -> Any:
        if not calls:
            calls.append(1)
            path.unlink()
        return read()

    return wrapped


@pytest.mark.parametrize(
    "garbage", [b'{"update": 4, "rew', b"\x00" * 3000, b"\xff\xfe\n", b"[1]\n", b"[" * 100_000, b'{"update": "x"}\n']
)
def test_damaged_records_are_left_out(run: Path, garbage: bytes) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], garbage, b"\n", *lines[1:3], garbage]))
    _, result, messages = go_on(run)
    assert "2 lines that cannot be read" in messages[0]
    assert [record["update"] for record in result.records] == [1, 2, 3, 5, 6]
    records, unreadable = RunFolder(run).records()
    assert [record["update"] for record in records] == [1, 2, 3, 5, 6]
    assert unreadable == 0


@pytest.mark.parametrize("text", ["", "steps: {", "- 1", "speed: 3", "a: &a [*a]", "\x00"])
def test_damaged_settings_are_taken_from_the_checkpoint(run: Path, text: str) -> None:
    expected = RunFolder(run).config()
    (run / "config.yaml").write_text(text)
    assert RunFolder(run).config() == expected
    for path in RunFolder(run).checkpoints.paths():
        cut(path)
    with pytest.raises(ImageRewardError, match=r"cannot be read.*config\.yaml"):
        RunFolder(run).config()


@pytest.mark.parametrize("kept", ["config.yaml", "checkpoint"])
def test_a_run_from_before_evaluations_had_a_guidance_goes_on_at_that_of_training(run: Path, kept: str) -> None:
    import yaml

    values = {**RunFolder(run).config().plain(), "guidance": 3.0}
    del values["evaluation_guidance"]
    if kept == "checkpoint":
        path = RunFolder(run).checkpoints.paths()[-1]
        save_state({**load_state(path), "config": values}, path)
    (run / "config.yaml").write_text(yaml.safe_dump(values) if kept == "config.yaml" else "")
    assert RunFolder(run).config().evaluation_guidance == 3.0
    trainer, _, _ = go_on(run)
    assert trainer.evaluator is not None
    assert trainer.evaluator.sampling.guidance == 3.0


def test_a_checkpoint_from_when_there_was_one_held_out_scorer_is_gone_on_from(run: Path) -> None:
    path = RunFolder(run).checkpoints.paths()[-1]
    state = load_state(path)
    scores = [each["held_out"]["Red"] for each in state["guard"]]
    old = [{**each, "held_out": each["held_out"]["Red"]} for each in state["guard"]]
    for each in old:
        del each["diversity"]
    save_state({**state, "guard": old}, path)
    _, result, messages = go_on(run)
    assert not any("going on from the checkpoint before it" in text for text in messages)
    assert [list(each.held_out["Red"]) for each in result.evaluations[: len(scores)]] == scores


def deny(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """No file of these names can be replaced or added to; a program has them open."""
    monkeypatch.setattr(atomic, "PATIENCE_SECONDS", 0.01)
    real = os.replace

    def refusing(source: Any, target: Any, **more: Any) -> None:
        if any(name in Path(target).name for name in names):
            error = PermissionError(
                13, "The process cannot access the file because it is being used by another process"
            )
            error.winerror = 32  # type: ignore[attr-defined]
            raise error
        real(source, target, **more)

    monkeypatch.setattr(os, "replace", refusing)
    append = states.append_text

    def refusing_append(path: Path, text: str) -> None:
        if any(name in path.name for name in names):
            raise OSError(28, "No space left on device")
        append(path, text)

    monkeypatch.setattr(states, "append_text", refusing_append)


@pytest.mark.parametrize("held", ["best.pt", "update-", "metrics.jsonl", "run.safetensors", ".pt"])
def test_a_refused_write_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path, held: str
) -> None:
    with monkeypatch.context() as patch:
        deny(patch, held)
        trainer, messages = trainer_of(CONFIG.but(output=str(tmp_path / "run")))
        result = trainer.train()
    assert result.updates == 4
    assert any("could not be written" in text or "cannot be replaced" in text for text in messages)
    lora, whole = (read_lora(path) for path in (result.files[0], finished / "run.safetensors"))
    assert all(torch.equal(lora.tensors[key], whole.tensors[key]) for key in whole.tensors)
    if held == "run.safetensors":
        assert [path.name for path in (tmp_path / "run").glob("*.safetensors")] == ["run-2.safetensors"]


def test_what_was_refused_is_written_at_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Release(Ear):
        def on_update(self, record: Any, pixels: Any) -> None:
            if record["update"] == 3:
                monkeypatch.undo()

    deny(monkeypatch, "best.pt", "metrics.jsonl", "run.safetensors")
    trainer, _ = trainer_of(CONFIG.but(output=str(tmp_path / "run"), steps=5))
    ear = Release()
    trainer.observers.append(ear)
    trainer.train()
    assert [record["update"] for record in RunFolder(tmp_path / "run").records()[0]] == [1, 2, 3, 4, 5]
    assert load_state(tmp_path / "run" / "best.pt")
    assert [path.name for path in (tmp_path / "run").glob("*.safetensors")] == ["run.safetensors"]
    assert "metrics.jsonl is written again" in ear.messages


def test_best_weights_in_memory_go_into_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "best.pt")
    trainer, _ = trainer_of(CONFIG.but(output=str(tmp_path / "run")))
    trainer.train()
    monkeypatch.undo()
    _, result, messages = go_on(tmp_path / "run", steps=4)
    assert not any("lost" in text for text in messages)
    assert result.updates == 4


@pytest.mark.parametrize("hacked", [False, True])
def test_a_run_reports_its_early_end_and_no_trouble_that_it_had_not(hacked: bool, tmp_path: Path) -> None:
    ear = Ear()
    config = CONFIG.but(output=str(tmp_path / "run"), patience=1, tolerance=0.0, learning_rate=3e-2)
    held_out = ColourScorer(0, sign=-1.0 if hacked else 1.0)
    result = ReflTrainer(ToyGenerator(), ColourScorer(0), config, held_out=held_out, observers=(ear,)).train()
    assert (result.ended == "early_stopped") is hacked
    assert any(text.startswith(ENDS["early_stopped"]) for text in ear.messages) is hacked
    advice = "no strength is recommended" if hacked else f"recommended strength {result.recommended_strength:.1f}"
    assert f"{advice}: {result.reason}" in ear.messages
    assert not any("cannot be replaced" in text for text in ear.messages)


@pytest.mark.windows_rules
def test_a_run_under_windows_rules(tmp_path: Path, expected: dict[str, torch.Tensor]) -> None:
    trainer_of(CONFIG.but(output=str(tmp_path / "run")))[0].train()
    with open(tmp_path / "run" / "run.safetensors", "rb"):  # a LoRA that is loaded elsewhere
        atomic_patience = atomic.PATIENCE_SECONDS
        atomic.PATIENCE_SECONDS = 0.1
        try:
            trainer, result, messages = go_on(tmp_path / "run")
        finally:
            atomic.PATIENCE_SECONDS = atomic_patience
    assert result.files == [tmp_path / "run" / "run-2.safetensors"]
    assert any("run-2.safetensors" in text for text in messages)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trainer.tuning.state().items())


@pytest.mark.parametrize(
    ("place", "error"), [("file/run", "cannot write into"), ("file", "is a file, and the run needs a folder")]
)
def test_a_place_that_takes_no_files_is_reported_before_anything_loads(tmp_path: Path, place: str, error: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ImageRewardError, match=error):
        RunFolder(tmp_path / place).check_free()


def test_a_full_disk_is_reported_before_anything_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ImageRewardError, match=r"cannot write into .*No space left"):
        RunFolder(tmp_path / "new" / "run").check_free()
    assert not (tmp_path / "new").exists()


def mutate(state: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """One part of a state is gone, or something else."""
    key = dice.choice(sorted(state))
    others: list[Any] = [None, -1, 10**30, 2.5, "x", [], [1], {}, {"a": 1}, torch.zeros(0), torch.zeros(3, 3), True]
    odd = dice.choice(others)
    if dice.random() < 0.3:
        return {name: value for name, value in state.items() if name != key}
    if isinstance(state[key], dict) and state[key] and dice.random() < 0.7:
        inside = dice.choice(sorted(state[key], key=str))
        return state | {key: state[key] | {inside: odd}}
    return state | {key: odd}


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_of_a_run_ends_in_the_projects_own_errors(run: Path, seed: int) -> None:
    dice = random.Random(seed)
    path = run / dice.choice(
        ["best.pt", "metrics.jsonl", "config.yaml", "checkpoints/update-00000004.pt", "checkpoints/update-00000003.pt"]
    )
    if path.suffix == ".pt" and dice.random() < 0.7:
        save_state(mutate(load_state(path), dice), path)
    else:
        data = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 8)):
            place = dice.randrange(len(data))
            data[place : place + dice.randint(0, 30)] = dice.randbytes(dice.randint(0, 30))
        path.write_bytes(data[: dice.randint(1, len(data))] if dice.random() < 0.3 else data)
    try:
        _, result, _ = go_on(run)
    except ImageRewardError:
        return
    assert result.updates == 6
