"""Files that somebody made to hurt, or that a disk has damaged: each ends as UnknownCheckpoint, soon and in little memory."""

from __future__ import annotations

import json
import os
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import warm
from checkpoint_layouts import LAYOUTS, write_layout
from sd_imagereward.core.errors import ImageRewardError
from sd_imagereward.core.scorers import loading
from sd_imagereward.core.weights.read import read_checkpoint, read_metadata

SECONDS, BYTES = 5, 1 << 30
GIGABYTE = 1 << 30

# A process of its own, so that neither a signal nor memory that the allocator keeps is laid to another file.
SCRIPT = """
import json, time, torch
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.weights.read import read_metadata

def highest():
    status = open('/proc/self/status').read()
    return int(status.split('VmHWM:')[1].split()[0]) << 10

told = {}
for path in sys.argv[1:]:
    before, start = highest(), time.process_time()
    try:
        read_metadata(path)
        load_scorer(path, device='cpu')
        told[path] = ['loaded', '']
    except BaseException as error:
        told[path] = [type(error).__name__, str(error)]
    told[path] += [time.process_time() - start, highest() - before]
print(json.dumps(told))
"""


def script_archive(path: Path, data: bytes, **compression: int) -> None:
    with zipfile.ZipFile(path, "w", **compression) as archive:
        archive.writestr("m/code/__torch__.py", "x = 1")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
        archive.writestr("m/data.pkl", data)


def plain_archive(path: Path, data: bytes, **compression: int) -> None:
    with zipfile.ZipFile(path, "w", **compression) as archive:
        archive.writestr("m/data.pkl", data)
        archive.writestr("m/data/0", b"\0" * 64)
        archive.writestr("m/version", "3\n")


MODULE = b"c__torch__\nM\n)\x81"  # GLOBAL, EMPTY_TUPLE, NEWOBJ
# A tensor of the storage 0; its size and stride are to be filled in.
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
    b"X\x01\0\0\x000X\x03\0\0\0cpuK\x10tQK\0%b%b\x89ccollections\nOrderedDict\n)RtR"
)


def cyclic(path: Path) -> None:
    script_archive(path, b"\x80\x02" + MODULE + b"q\0}X\4\0\0\0selfh\0sb.")


def graph_of_40_levels(path: Path) -> None:
    data = b"\x80\x02" + MODULE + b"}bq\0"
    for level in range(40):
        data += MODULE + b"}(X\1\0\0\0ah%cX\1\0\0\0bh%cub" % (level, level) + b"q%c" % (level + 1)
    script_archive(path, data + b".")


def chain_of_modules(path: Path) -> None:
    script_archive(path, b"\x80\x02" + (MODULE + b"}X\1\0\0\0a") * 10_000 + b"N" + b"sb" * 10_000 + b".")


def key_that_takes_for_ever(path: Path) -> None:
    """A dict's key of tuples of tuples, whose hash visits 2^60 of them."""
    plain_archive(path, b"\x80\x02}" + b")" + b"q\0h\0\x86" * 60 + b"Ks.")


def key_of_nested_tuples(path: Path) -> None:
    """A dict's key whose hash calls itself 400 000 times, which no stack holds."""
    plain_archive(path, b"\x80\x02})" + b"\x85" * 400_000 + b"Ks.")


def call_of_a_list_without_end(path: Path) -> None:
    """Of a list of lists: 2^40 of them would be written into the error's message."""
    plain_archive(path, b"\x80\x02]q\0" + b"](h\0h\0eq\0" * 40 + b")R.")


def storage_larger_than_its_record(path: Path) -> None:
    tensor = TENSOR.replace(b"K\x10tQ", b"J\0\0\0\1tQ") % (b"(J\0\0\0\1t", b"(K\1t")
    plain_archive(path, b"\x80\x02}X\1\0\0\0a" + tensor + b"s.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/other", b"\0" * (1 << 26))  # so that the file is large enough


def bytes_of_nothing(path: Path) -> None:
    plain_archive(path, b"\x80\x02}X\1\0\0\0acbuiltins\nbytearray\nJ\0\0\0\x7f\x85Rs.")


def bytes_that_double(path: Path) -> None:
    calls = b"c_codecs\nencode\nq\0" + b"h\0" * 30
    text = b"X\4\0\0\0abcdX\6\0\0\0latin1\x86R"
    plain_archive(path, b"\x80\x02" + calls + text + b"X\3\0\0\0hex\x86R" * 30 + b".")


def memo_at_the_end_of_the_address_space(path: Path) -> None:
    plain_archive(path, b"\x80\x02}r\xff\xff\xff\x7f.")


def many_steps(path: Path) -> None:
    plain_archive(path, b"\x80\x02" + b"]" * (30 << 20) + b".", compression=zipfile.ZIP_DEFLATED)


def nested_lists(path: Path) -> None:
    plain_archive(path, b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".")


def bomb(archive: Callable[..., None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        archive(path, b"\0" * GIGABYTE, compression=zipfile.ZIP_DEFLATED, compresslevel=1)

    return write


def compressed_storage(path: Path) -> None:
    data = b"\x80\x02}X\1\0\0\0a" + TENSOR % (b"(J\0\0\0\x10t", b"(K\1t") + b"s."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/data.pkl", data)
        archive.writestr("m/data/0", b"\0" * GIGABYTE)


def tensor_of(size: bytes, stride: bytes) -> Callable[[Path], None]:
    return lambda path: plain_archive(path, b"\x80\x02}X\1\0\0\0a" + TENSOR % (size, stride) + b"s.")


def tied(path: Path) -> None:
    tensor = TENSOR % (b"(K\x10t", b"(K\1t") + b"q\0"
    names = b"".join(b"X\4\0\0\0%04dh\0" % i for i in range(9000))
    plain_archive(path, b"\x80\x02}(X\1\0\0\0a" + tensor + names + b"u.")


def sparse(head: bytes = b"", tail: bytes = b"") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with open(path, "wb") as file:
            file.write(head)
            file.truncate(3 * GIGABYTE)
            file.seek(0, os.SEEK_END)
            file.write(tail)

    return write


def directory_of_3_gb(path: Path) -> None:
    size = 3 * GIGABYTE
    end = b"PK\5\6" + b"\0" * 4 + b"\1\0\1\0" + size.to_bytes(4, "little") + b"\0" * 6
    sparse(b"PK\3\4", end)(path)


def safe(header: object, data: bytes = b"\0" * 64, length: int | None = None) -> Callable[[Path], None]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()

    def write(path: Path) -> None:
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)

    return write


def entry(shape: object, first: object, last: object, dtype: object = "F32") -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}}


def large_tensor_of_a_scorer(path: Path) -> None:
    """3 GB of a whole, valid file under a name that a scorer looks for."""
    count = 3 * GIGABYTE // 4
    name = (
        "visual_encoder.cls_token",
        "text_encoder.encoder.layer.0.crossattention.self.key.weight",
        "mlp.layers.0.weight",
    )
    header: dict[str, object] = {}
    for number, each in enumerate((*name, "visual_encoder.patch_embed.proj.weight", "mlp.layers.0.bias")):
        offsets = [4 * number, 4 * number + 4] if number < 4 else [16, 16 + 4 * count]
        header[each] = {"dtype": "F32", "shape": [1 if number < 4 else count], "data_offsets": offsets}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 16 + 4 * count)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "broken-zip.pt": lambda path: path.write_bytes(b"PK\3\4" + b"broken" * 1000),
    "cyclic.pt": cyclic,
    "graph.pt": graph_of_40_levels,
    "chain.pt": chain_of_modules,
    "key.pt": key_that_takes_for_ever,
    "deep-key.pt": key_of_nested_tuples,
    "call.pt": call_of_a_list_without_end,
    "larger-storage.pt": storage_larger_than_its_record,
    "bytearray.pt": bytes_of_nothing,
    "encode.pt": bytes_that_double,
    "memo.pt": memo_at_the_end_of_the_address_space,
    "steps.pt": many_steps,
    "nested.pt": nested_lists,
    "bomb.pt": bomb(plain_archive),
    "script-bomb.pt": bomb(script_archive),
    "storage-bomb.pt": compressed_storage,
    "expanded.pt": tensor_of(b"(J\0\0\0\x10J\0\0\0\x10t", b"(K\0K\0t"),
    "larger.pt": tensor_of(b"(K\x11t", b"(K\1t"),
    "strides.pt": tensor_of(b"(K\2K\2t", b"(J\0\0\0\x70K\1t"),
    "negative.pt": tensor_of(b"(J\xff\xff\xff\xfft", b"(K\1t"),
    "texts.pt": tensor_of(b"(X\1\0\0\0at", b"(K\1t"),
    "tied.pt": tied,
    "sparse.pt": sparse(),
    "sparse-zip.pt": sparse(b"PK\3\4"),
    "directory.pt": directory_of_3_gb,
    "sparse.safetensors": sparse(),
    "sparse-header.safetensors": sparse((2 * GIGABYTE).to_bytes(8, "little") + b"{"),
    "endless.safetensors": safe({}, length=2**64 - 1),
    "outside.safetensors": safe(entry([1 << 40], 0, 1 << 42)),
    "overflow.safetensors": safe(entry([1 << 62, 1 << 62], 0, 64)),
    "shape.safetensors": safe(entry([15], 0, 64)),
    "minus.safetensors": safe(entry([-16], 0, -64)),
    "fraction.safetensors": safe(entry([16.0], 0, 64)),
    "dtype.safetensors": safe(entry([16], 0, 64, "F99")),
    "dtype-list.safetensors": safe(entry([16], 0, 64, ["F32"])),
    "gap.safetensors": safe(entry([8], 32, 64)),
    "rest.safetensors": safe(entry([8], 0, 32)),
    "metadata.safetensors": safe({"__metadata__": {"a": [1]}}, b""),
    "deep.safetensors": safe(b"[" * 9_000_000),
    "deep-metadata.safetensors": safe(b'{"__metadata__":' + b'{"a":' * 1_500_000),
    "long.safetensors": safe(b'{"__metadata__":{"a":"' + b" " * 20_000_000 + b'"}}', b""),
    "lists.safetensors": safe(b"[" + b"[]," * 3_000_000 + b"[]]"),
    "large.safetensors": large_tensor_of_a_scorer,
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_each_ends_as_the_projects_error_within_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    for name, write in HOSTILE.items():
        write(tmp_path / name)
    done = warm.run(SCRIPT, *(tmp_path / name for name in HOSTILE))
    assert done.returncode == 0, done.stderr
    told = {Path(path).name: row for path, row in json.loads(done.stdout).items()}
    assert told.keys() == HOSTILE.keys()
    for name, (error, message, seconds, memory) in told.items():
        assert error == "UnknownCheckpoint", (name, error, message)
        assert name in message
        assert "\n" not in message
        assert seconds < SECONDS, (name, seconds)
        assert memory < BYTES, (name, memory)


def test_a_shared_module_is_read_once_under_its_first_name(tmp_path: Path) -> None:
    """Two levels, two names each for the level below: four paths, one tensor."""
    data = b"\x80\x02" + MODULE + b"}X\1\0\0\0w" + TENSOR % (b"(K\2t", b"(K\1t") + b"sbq\0"
    for level in range(2):
        data += MODULE + b"}(X\1\0\0\0ah%cX\1\0\0\0bh%cub" % (level, level) + b"q%c" % (level + 1)
    path = tmp_path / "shared.pt"
    script_archive(path, data + b".")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/0", torch.arange(1.0, 17.0).numpy().tobytes())
    tensors = read_checkpoint(path).read()
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"a.a.w": [1.0, 2.0]}


# -- random damage ---------------------------------------------------------------------------------------------------

SMALL = {"vision_depth": 1, "text_depth": 1, "image_size": 32}
DAMAGES = 150


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Cut somewhere, or with some bytes changed: most where the structure stands, at the beginning and the end."""
    if chance.random() < 0.2:
        return whole[: chance.randrange(len(whole))]
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 5, 50))):
        near = min(len(whole), chance.choice((64, 1024, 30_000, len(whole))))
        place = chance.randrange(near) if chance.random() < 0.6 else len(whole) - 1 - chance.randrange(near)
        content[place] = chance.choice((chance.randrange(256), 0, 255, content[place] ^ 1 << chance.randrange(8)))
    return bytes(content)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_damage_loads_or_ends_as_the_projects_error(tmp_path: Path, layout: str) -> None:
    path = write_layout(layout, tmp_path, **SMALL)
    whole, chance = path.read_bytes(), random.Random(layout)
    outcomes = {"loaded": 0, "refused": 0}
    for number in range(DAMAGES):
        path.write_bytes(damaged(whole, chance))
        try:
            loading.load_scorer(path, device="cpu").unload()
            outcomes["loaded"] += 1
        except ImageRewardError:
            outcomes["refused"] += 1
        except BaseException:
            print(f"damage {number} of {layout} left a file that raised another error")
            raise
        read_metadata(path)
    assert min(outcomes.values()) > DAMAGES // 20, outcomes
