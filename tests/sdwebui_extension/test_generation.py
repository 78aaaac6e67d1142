"""A run of the script: what is scored, where the score stands, what does not leak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from sd_imagereward.core.infotext.parameters import parse_parameters
from sd_imagereward.core.pictures.texts import read_parameters


def score_of(text: str) -> float:
    return float(parse_parameters(text).fields["ImageReward"])


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def scored(host: SimpleNamespace, image: Any, prompt: str) -> float:
    return float(host.service.service.score("imagereward", [image], [prompt]).total[0])


def test_each_image_carries_its_own_score_and_the_grid_none(run: Any, tmp_path: Path) -> None:
    processed = run()
    assert len(processed.images) == 5
    assert processed.index_of_first_image == 1
    grid_text, *texts = processed.infotexts
    assert "ImageReward: " not in grid_text
    assert len({score_of(text) for text in texts}) == 4
    assert [read_parameters(file) for file in files(tmp_path / "images")] == texts
    assert "ImageReward: " not in read_parameters(files(tmp_path / "grids")[0])
    assert processed.images[1].info["parameters"] == texts[0]


def test_the_score_is_a_pair_on_the_parameters_line(run: Any) -> None:
    text = run().infotexts[1]
    assert len(text.splitlines()) == 3
    assert text.splitlines()[-1].startswith("Steps: 20, ")
    assert not any(key.endswith("Score") for key in parse_parameters(text).fields)


def test_each_image_is_scored_by_its_own_prompt_without_syntax(run: Any, p: Any, host: SimpleNamespace) -> None:
    p.prompt = [f"a ({word}:1.2) <lora:x:1>" for word in ("castle", "robot", "dragon", "river")]
    processed = run()
    for image, text, word in zip(
        processed.images[1:], processed.infotexts[1:], ("castle", "robot", "dragon", "river"), strict=True
    ):
        assert score_of(text) == pytest.approx(scored(host, image, f"a {word}"), abs=1e-4)


def test_the_raw_prompt_on_request(run: Any, p: Any, host: SimpleNamespace) -> None:
    p.prompt = "a (castle:1.2) BREAK river"
    processed = run(plain_prompt=False)
    assert score_of(processed.infotexts[1]) == pytest.approx(scored(host, processed.images[1], p.prompt), abs=1e-4)
    assert "ImageReward raw prompt: True" in processed.infotexts[1]


def test_the_picture_scored_is_the_one_the_user_gets(run: Any, p: Any, host: SimpleNamespace) -> None:
    class Darken(host.scripts.Script):
        def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
            pp.image = Image.eval(pp.image, lambda value: value // 4)

    p.scripts.alwayson_scripts.insert(0, Darken())
    processed = run()
    assert processed.images[1].getextrema()[0][1] < 64
    assert score_of(processed.infotexts[1]) == pytest.approx(scored(host, processed.images[1], "a cat"), abs=1e-4)


def test_nothing_leaks_into_the_next_generation(run: Any, p: Any, host: SimpleNamespace) -> None:
    run(sort=True, filter=True, threshold=-99)
    assert p.extra_generation_params == {}
    assert p.do_not_save_grid is False
    after = host.processing.process_images(p)
    assert len(after.images) == 5
    assert not any("ImageReward" in text for text in after.infotexts)


def test_the_same_processing_object_again(run: Any, p: Any) -> None:
    """As batch img2img and loopback scripts call."""
    first, second = run(sort=True), run(sort=True)
    assert first.infotexts == second.infotexts
    assert p.seed == 5


def test_a_generation_inside_ours_is_left_alone(run: Any, p: Any, host: SimpleNamespace, tmp_path: Path) -> None:
    """As ADetailer does for each face, on a processing object of its own."""
    inner: list[Any] = []

    class Detailer(host.scripts.Script):
        def postprocess_image_after_composite(self, outer: Any, pp: Any, *args: Any) -> None:
            if outer is p:
                own = host.processing.processing_for(
                    tmp_path / "inner", *p.scripts.alwayson_scripts, n_iter=1, batch_size=1
                )
                inner.append(host.processing.process_images(own))

    p.scripts.alwayson_scripts.insert(0, Detailer())
    processed = run(filter=True, threshold=99)
    assert processed.images == []
    assert len(inner) == 4
    assert not any("ImageReward" in text for one in inner for text in one.infotexts)
    assert len(files(tmp_path / "inner" / "images")) == 4


def test_files_without_saving(run: Any, p: Any, tmp_path: Path) -> None:
    p.do_not_save_samples = p.do_not_save_grid = True
    processed = run()
    assert len(processed.images) == 4
    assert files(tmp_path) == []


def test_the_gallerys_upscale_replaces_one_by_one(run: Any, p: Any) -> None:
    p.txt2img_upscale, p.n_iter, p.batch_size = True, 1, 1
    processed = run(filter=True, threshold=99, until=5, keep_best=1)
    assert len(processed.images) == len(processed.infotexts) == 1
    score_of(processed.infotexts[0])


def test_file_name_pattern(run: Any, p: Any, host: SimpleNamespace, tmp_path: Path) -> None:
    host.shared.opts.data["samples_filename_pattern"] = "[seed]-[image_reward]"
    p.n_iter = p.batch_size = 1
    processed = run()
    [file] = files(tmp_path / "images")
    assert file.stem == f"00000-5-{score_of(processed.infotexts[0]):.4f}"


def test_file_name_pattern_without_a_score_is_left_out(p: Any, host: SimpleNamespace, tmp_path: Path) -> None:
    host.shared.opts.data["samples_filename_pattern"] = "[seed]-[image_reward]"
    p.n_iter = p.batch_size = 1
    host.processing.process_images(p)
    assert [file.stem for file in files(tmp_path / "images")] == ["00000-5"]


def test_decimals_follow_the_settings(run: Any, host: SimpleNamespace) -> None:
    host.shared.opts.data["image_reward_decimals"] = 2
    assert len(parse_parameters(run().infotexts[1]).fields["ImageReward"].partition(".")[2]) == 2


@pytest.mark.parametrize("interrupt_after", [0, 1])
def test_interrupt(run: Any, p: Any, host: SimpleNamespace, interrupt_after: int) -> None:
    class Interrupt(host.scripts.Script):
        seen = 0

        def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
            Interrupt.seen += 1
            host.shared.state.interrupted = Interrupt.seen > interrupt_after

    p.scripts.alwayson_scripts.append(Interrupt())
    if interrupt_after == 0:
        host.shared.state.interrupted = True
    processed = run(sort=True, until=50, filter=True, threshold=-99, tries=9)
    assert len(processed.images) == (0 if interrupt_after == 0 else 5)
    host.shared.state.interrupted = False


@pytest.mark.parametrize("wanted", [False, True])
def test_aesthetic_pair_for_image_browsers(
    run: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    import torch
    from sd_imagereward.core.scorers.registry import scorer_infos
    from sd_imagereward.core.scoring.score import ImageScores

    total = torch.tensor([6.1234])
    scores = ImageScores(total, {"Aesthetic": total}, scorer_infos()["aesthetic"])
    monkeypatch.setattr(host.service.Service, "score", lambda *_: scores)
    host.shared.opts.data["image_reward_aesthetic_pair"] = wanted
    fields = parse_parameters(run().infotexts[1]).fields
    assert fields["Aesthetic"] == "6.1234"
    assert fields.get("aesthetic_score") == ("6.12" if wanted else None)


def test_no_aesthetic_pair_from_another_scorer(run: Any, host: SimpleNamespace) -> None:
    host.shared.opts.data["image_reward_aesthetic_pair"] = True
    assert "aesthetic_score" not in run().infotexts[1]


def test_a_mixture_writes_every_component(run: Any, p: Any) -> None:
    processed = run(scorer="mix(ImageReward=1, technical=0.5)", sort=True)
    fields = [parse_parameters(text).fields for text in processed.infotexts[1:]]
    for found in fields:
        total = float(found["ImageReward"]) + 0.5 * float(found["Technical"])
        assert float(found["Mix"]) == pytest.approx(total, abs=2e-4)
    totals = [float(found["Mix"]) for found in fields]
    assert totals == sorted(totals, reverse=True)


@pytest.fixture
def mixture_file(models: Path) -> Iterator[Callable[[str], str]]:
    """Writes a mixture file beside the weights and gives its name."""
    path = models / "ImageReward" / "mine.json"

    def write(text: str) -> str:
        path.write_text(text)
        return path.name

    yield write
    path.unlink(missing_ok=True)


def test_a_mixture_file_beside_the_weights_is_offered_and_works(
    run: Any, host: SimpleNamespace, mixture_file: Callable[[str], str]
) -> None:
    name = mixture_file('{"mix": {"ImageReward": 1, "technical": 0.5}}')
    assert host.panel.Panel(str).scorer.choices[-1] == name
    fields = parse_parameters(run(scorer=name).infotexts[-1]).fields
    assert fields["ImageReward scorer"] == "mix(imagereward=1, technical=0.5)"  # of use without the file, too
    assert {"Mix", "ImageReward", "Technical"} <= set(fields)
    host.shared.opts.data["image_reward_scorer"] = name
    assert host.settings.default_scorer() == "mix(imagereward=1, technical=0.5)"


def test_a_mixture_file_may_not_name_other_files(
    run: Any, p: Any, models: Path, mixture_file: Callable[[str], str]
) -> None:
    name = mixture_file('{"mix": {"ImageReward.pt": 1}}')
    with pytest.raises(Exception, match=r"ImageReward\.pt"):
        run(scorer=name)
    with pytest.raises(Exception, match="not found"):
        run(scorer=str(models / "ImageReward" / name))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"scorer": "nobody"}, "nobody"),
        ({"scorer": "hub:someone/else"}, "hub:someone/else"),
        ({"scorer": "mix(imagereward=1, hub:someone/else=1)"}, "hub:someone/else"),
        ({"scorer": "weights/mixture.json"}, "mixture.json"),
        ({"threshold": "high"}, "high"),
        ({"keep_best": 1.5}, "1.5"),
        ({"until": -1}, "-1"),
        ({"tries": 0}, "0"),
        ({"sort": [1]}, "[1]"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_generated(
    run: Any, tmp_path: Path, arguments: dict[str, Any], word: str
) -> None:
    from sd_imagereward.core.errors import ImageRewardError

    with pytest.raises(ImageRewardError, match=word.replace("[", r"\[")):
        run(**arguments)
    assert files(tmp_path) == []


def test_an_empty_threshold_is_the_default(run: Any) -> None:
    run(filter=True, threshold=None)
    run(filter=True, threshold="")


# -- a batch that yields more images than prompts --------------------------------------------------------------------


@pytest.fixture
def video(p: Any) -> Any:
    """Five frames of one prompt."""
    p.n_iter, p.batch_size, p.frames = 1, 1, 5
    return p


def saved_scores(folder: Path) -> list[float]:
    return [score_of(read_parameters(file)) for file in files(folder / "images")]


def test_each_frame_has_its_own_score(run: Any, video: Any, host: SimpleNamespace, tmp_path: Path) -> None:
    processed = run()
    scores = [score_of(text) for text in processed.infotexts]
    assert scores == pytest.approx([scored(host, image, "a cat") for image in processed.images], abs=1e-4)
    assert len(set(scores)) == 5
    assert saved_scores(tmp_path) == scores
    assert files(tmp_path / "grids") == []  # the host makes none of frames


def test_frames_are_filtered_and_sorted_one_by_one(run: Any, video: Any, tmp_path: Path) -> None:
    scores = [score_of(text) for text in run().infotexts]
    before = len(files(tmp_path))
    processed = run(filter=True, sort=True, threshold=sorted(scores)[2])
    assert [score_of(text) for text in processed.infotexts] == sorted(scores, reverse=True)[:3]
    assert saved_scores(tmp_path)[before:] == [score for score in scores if score >= sorted(scores)[2]]


# -- a hook that fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [1, 3])
def test_a_hook_that_fails_leaves_no_picture_in_charge(
    run: Any, p: Any, host: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    real, calls = host.host.of_image, []

    def fail_once(p: Any, name: str, position: int) -> Any:
        calls.extend([1] if name == "seeds" else [])
        if name == "seeds" and len(calls) == failing + 1:
            raise IndexError("list index out of range")
        return real(p, name, position)

    monkeypatch.setattr(host.host, "of_image", fail_once)
    texts = run(filter=True, threshold=99, sort=True).infotexts
    assert [text.count("ImageReward: ") for text in texts] == [0]  # three are rejected; this one was not scored
    assert f"Seed: {5 + failing}," in texts[0]
    [file] = files(tmp_path / "images")
    assert read_parameters(file) == texts[0]


def test_where_texts_are_plain_the_score_before_does_not_stay(
    p: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.host, "asks_for_values", lambda: False)
    job = host.job.Job(host.request.Request("technical"), tells_settings=False)
    job.attach(p)
    p.prompts, p.negative_prompts, p.seeds, p.subseeds = ["a cat"], ["blurry"], [1], [2]
    p.batch_index = 0
    job.score(p, host.processing.noise(1))
    assert "Technical" in p.extra_generation_params
    p.batch_index, p.seeds = 1, []
    with pytest.raises(IndexError):
        job.score(p, host.processing.noise(2))
    assert p.extra_generation_params == {}
    assert job.in_charge(p) is None
