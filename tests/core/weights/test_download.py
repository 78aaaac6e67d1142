"""Downloads over real HTTP from a Hub on this machine that cuts, stalls, refuses, lies, and is used twice at once."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub as fake
import pytest
import warm
from hub import CONTENT, GOOD, Hub, ranges
from sd_imagereward.core.weights import transfer

SCRIPT = """
import json, logging
from pathlib import Path
from sd_imagereward.core.weights import transfer
from sd_imagereward.core.weights.catalogue import WeightFile
from sd_imagereward.core.weights.download import fetch_weight, hub_files
from sd_imagereward.core.errors import ImageRewardError
transfer.FIRST_PAUSE = 0.01
sha256, times, stop_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
heard, answers = [], []
def hear(done, total):
    heard.append((done, total))
    if stop_at and done >= stop_at:
        raise KeyboardInterrupt
for _ in range(times):
    try:
        path = fetch_weight(WeightFile('owner/name', 'model.pt', 1 << 20, sha256, 'MIT'), hear)
        answers.append({'path': str(path), 'size': path.stat().st_size, 'heard': heard})
    except ImageRewardError as error:
        answers.append({'error': type(error).__name__, 'message': str(error)})
print(json.dumps(answers))
"""


@pytest.fixture
def hub() -> Iterator[type[Hub]]:
    with fake.running() as one:
        yield one


def start(home: Path, endpoint: str, sha256: str = "", times: int = 1, stop_at: int = 0, **extra: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "IMAGEREWARD"))}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HOME": str(home), "NO_PROXY": "*"} | extra
    return warm.start(SCRIPT, sha256, times, stop_at, env=environment)


def answers(process: Any) -> list[dict[str, Any]]:
    out, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    return [{**answer, "stderr": error} for answer in json.loads(out)]


def fetch(home: Path, endpoint: str, sha256: str = "", **options: Any) -> dict[str, Any]:
    return answers(start(home, endpoint, sha256, **options))[0]


def names_in(home: Path) -> list[str]:
    return [path.name for path in (home / "imagereward").iterdir()]


def test_a_mirror_is_asked_once_and_the_file_is_kept(hub: type[Hub], tmp_path: Path) -> None:
    first = fetch(tmp_path, hub.url, GOOD)
    assert Path(first["path"]) == tmp_path / "imagereward" / "model.pt"
    assert Path(first["path"]).read_bytes() == CONTENT
    assert first["heard"][0] == [0, len(CONTENT)]
    assert first["heard"][-1] == [len(CONTENT), len(CONTENT)]
    asked = len(hub.requests)
    assert fetch(tmp_path, hub.url, GOOD)["path"] == first["path"]
    assert len(hub.requests) == asked == 2
    assert names_in(tmp_path) == ["model.pt"]


# -- interruptions ---------------------------------------------------------------------------------------------------


def test_a_connection_that_is_cut_is_gone_on_with(hub: type[Hub], tmp_path: Path) -> None:
    hub.cut_after = 400_000
    assert Path(fetch(tmp_path, hub.url)["path"]).read_bytes() == CONTENT
    assert ranges(hub) == [None, "bytes=400000-", "bytes=800000-"]


def test_a_connection_that_stalls_is_given_up_and_gone_on_with(hub: type[Hub], tmp_path: Path) -> None:
    hub.stall_after = 600_000
    began = time.monotonic()
    assert Path(fetch(tmp_path, hub.url, HF_HUB_DOWNLOAD_TIMEOUT="1")["path"]).read_bytes() == CONTENT
    assert ranges(hub) == [None, "bytes=600000-"]
    assert time.monotonic() - began < 25


def test_the_next_run_goes_on_where_the_last_one_was_stopped(hub: type[Hub], tmp_path: Path) -> None:
    hub.cut_after = 300_000
    stopped = start(tmp_path, hub.url, stop_at=300_000)
    assert stopped.wait(timeout=60) != 0
    assert names_in(tmp_path) == [".incomplete"]
    hub.cut_after = None
    assert Path(fetch(tmp_path, hub.url)["path"]).read_bytes() == CONTENT
    assert ranges(hub) == [None, "bytes=300000-"]
    assert names_in(tmp_path) == ["model.pt"]


def test_another_version_of_the_file_is_begun_anew(hub: type[Hub], tmp_path: Path) -> None:
    hub.cut_after, hub.etag = 300_000, "1" * 40
    start(tmp_path, hub.url, stop_at=300_000).wait(timeout=60)
    hub.cut_after, hub.etag = None, "2" * 40
    assert Path(fetch(tmp_path, hub.url)["path"]).read_bytes() == CONTENT
    assert ranges(hub) == [None, None]


def test_a_server_without_ranges_sends_it_all_again(hub: type[Hub], tmp_path: Path) -> None:
    hub.cut_after, hub.ranges = 300_000, False
    start(tmp_path, hub.url, stop_at=300_000).wait(timeout=60)
    hub.cut_after = None
    assert Path(fetch(tmp_path, hub.url, GOOD)["path"]).read_bytes() == CONTENT
    assert ranges(hub) == [None, "bytes=300000-"]


def test_busy_servers_are_asked_again(hub: type[Hub], tmp_path: Path) -> None:
    hub.failures.extend([500, 429, 503])
    assert Path(fetch(tmp_path, hub.url)["path"]).read_bytes() == CONTENT
    assert [method for method, _, _ in hub.requests] == ["HEAD", "HEAD", "HEAD", "HEAD", "GET"]


def test_one_that_stays_busy_is_told(hub: type[Hub], tmp_path: Path) -> None:
    hub.failures.extend([500] * 100)
    answer = fetch(tmp_path, hub.url)
    assert answer["error"] == "WeightsNotFound"
    assert "HTTP 500" in answer["message"]
    assert len(hub.requests) == transfer.TRIES


@pytest.mark.parametrize("status", [401, 404])
def test_what_is_refused_is_not_asked_for_again(hub: type[Hub], tmp_path: Path, status: int) -> None:
    hub.failures.append(status)
    answer = fetch(tmp_path, hub.url)
    assert answer["error"] == "WeightsNotFound"
    assert f"HTTP {status}" in answer["message"]
    assert len(hub.requests) == 1


def test_a_file_that_is_shorter_than_promised_never_takes_its_name(hub: type[Hub], tmp_path: Path) -> None:
    hub.size = len(CONTENT) + 1000
    answer = fetch(tmp_path, hub.url)
    assert answer["error"] == "DownloadFailed"
    assert f"of {len(CONTENT) + 1000:,} bytes" in answer["message"]
    assert names_in(tmp_path) == [".incomplete"]


@pytest.mark.parametrize("known", [GOOD, ""], ids=["hash in the catalogue", "hash from the Hub"])
def test_a_damaged_file_never_takes_its_name(hub: type[Hub], tmp_path: Path, known: str) -> None:
    hub.body = CONTENT[:-1] + b"x"
    answer = fetch(tmp_path, hub.url, known)
    assert answer["error"] == "DownloadFailed"
    assert "arrived damaged" in answer["message"]
    assert names_in(tmp_path) == [".incomplete"]
    hub.body = CONTENT
    assert Path(fetch(tmp_path, hub.url, known)["path"]).read_bytes() == CONTENT


# -- two at once -----------------------------------------------------------------------------------------------------


def test_two_at_once_download_it_once(hub: type[Hub], tmp_path: Path) -> None:
    hub.pause = 0.15
    both = [start(tmp_path, hub.url) for _ in range(2)]
    found = [answers(process)[0] for process in both]
    assert [Path(each.get("path", each)).read_bytes() == CONTENT for each in found] == [True, True]
    assert ranges(hub) == [None]
    assert sum("being downloaded by another process; waiting" in each["stderr"] for each in found) == 1
    assert names_in(tmp_path) == ["model.pt"]


def test_who_waited_goes_on_with_what_the_first_leaves_behind(hub: type[Hub], tmp_path: Path) -> None:
    hub.pause = 0.1
    first = start(tmp_path, hub.url)
    while not ranges(hub):
        time.sleep(0.05)
    second = start(tmp_path, hub.url)
    time.sleep(0.8)
    first.kill()
    first.wait()
    assert Path(answers(second)[0]["path"]).read_bytes() == CONTENT
    again = ranges(hub)[1]
    assert again is not None
    assert int(again.removeprefix("bytes=").removesuffix("-")) > 0


# -- who is asked, and told what -------------------------------------------------------------------------------------


def test_a_large_file_lies_elsewhere_and_the_token_stays_here(hub: type[Hub], tmp_path: Path) -> None:
    with fake.running(elsewhere=hub.url) as front:
        answer = fetch(tmp_path, front.url, HF_TOKEN="hf_secret")
        assert Path(answer["path"]).read_bytes() == CONTENT
        assert front.tokens == ["Bearer hf_secret"] * 2
        assert hub.tokens == [None]


def test_without_network_the_error_names_file_source_and_folder(tmp_path: Path) -> None:
    message = fetch(tmp_path, "http://127.0.0.1:9")["message"]
    assert message.startswith("model.pt is not on this machine")
    assert "127.0.0.1:9 cannot be reached (Connection refused)" in message
    assert "https://huggingface.co/owner/name/resolve/main/model.pt" in message
    assert str(tmp_path / "imagereward" / "model.pt") in message
    assert "\n" not in message


def test_a_hub_that_cannot_be_reached_is_not_asked_again_for_a_while(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        first, second = answers(start(tmp_path, url, times=2, HF_HUB_DOWNLOAD_TIMEOUT="1"))
        assert "(no answer in time)" in first["message"]
        assert "tried again in" not in first["message"]
        assert "it is tried again in 5 min" in second["message"]
        assert first["stderr"] == ""
        silent.accept()
        silent.settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent.accept()  # it was asked once


@pytest.mark.parametrize(("addresses", "longest"), [(1, 5.0), (4, 5.0), (12, 12.0)])
def test_a_server_of_many_addresses_is_given_up_as_soon(
    addresses: int, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.socket, "getaddrinfo", lambda *_, **__: [None] * addresses)
    assert transfer._seconds_each("huggingface.co", 443) * addresses == longest


def test_whoever_asks_for_a_download_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(transfer.Unreachable):
        transfer.describe("http://127.0.0.1:9/x")
    with pytest.raises(transfer.Unreachable, match="tried again in 5 min"):
        transfer.expect_reachable("http://127.0.0.1:9/y")
    clock = time.monotonic()
    monkeypatch.setattr(transfer.time, "monotonic", lambda: clock + transfer.UNREACHABLE_SECONDS + 1)
    transfer.expect_reachable("http://127.0.0.1:9/y")
    monkeypatch.undo()
    transfer.forget_unreachable()
    transfer.expect_reachable("http://127.0.0.1:9/y")


def test_offline_mode_asks_nobody(hub: type[Hub], tmp_path: Path) -> None:
    answer = fetch(tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert answer["error"] == "WeightsNotFound"
    assert "HF_HUB_OFFLINE" in answer["message"]
    assert hub.requests == []


def test_a_folder_that_cannot_be_written_to_is_told(hub: type[Hub], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = fetch(tmp_path, hub.url, IMAGEREWARD_HOME=str(tmp_path / "file" / "weights"))
    assert answer["error"] == "DownloadFailed"
    assert "cannot write model.pt" in answer["message"]
    assert "IMAGEREWARD_HOME" in answer["message"]


def test_the_reference_packages_folder_is_looked_into(tmp_path: Path) -> None:
    there = tmp_path / ".cache" / "ImageReward" / "model.pt"
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT)
    assert fetch(tmp_path, "http://127.0.0.1:9")["path"] == str(there)


def test_a_folder_of_ones_own_goes_first(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "model.pt").write_bytes(CONTENT)
    assert fetch(tmp_path, "http://127.0.0.1:9", IMAGEREWARD_HOME=str(own))["path"] == str(own / "model.pt")
