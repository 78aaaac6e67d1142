"""Makes tests/core/networks/operators_without_mps.json: what the oldest torch computes on the CPU but not on Apple's GPUs.

    OLDEST_PYTHON tests/reference/operators_without_mps.py

Read off the table of dispatch that every wheel of torch carries. An operator that decomposes into others, explicitly, counts
as there when the overload that does its work is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

TARGET = Path(__file__).resolve().parent.parent / "core" / "networks" / "operators_without_mps.json"
TABLE = Path(torch.__file__).parent.parent / "torchgen" / "packaged" / "ATen" / "native" / "native_functions.yaml"


def backends(entry: dict[str, Any]) -> set[str]:
    """The backends that have a kernel of their own: {"CPU", "CUDA", "MPS", "CompositeExplicitAutograd", ...}."""
    return {key.strip() for keys in entry.get("dispatch", {}) for key in keys.split(",")}


def lacks_mps(entry: dict[str, Any], table: dict[str, dict[str, Any]]) -> bool:
    if "structured_delegate" in entry:
        return lacks_mps(table[entry["structured_delegate"]], table)
    own = backends(entry)
    if "MPS" in own:
        return False
    if any(key.startswith("Composite") for key in own):
        base = name_of(entry).split(".")[0]
        working = [backends(other) for name, other in table.items() if does_the_work(name, base)]
        return any("CPU" in kernels for kernels in working) and not any("MPS" in kernels for kernels in working)
    return "CPU" in own  # no entry at all: a composite of others, which are seen themselves


def does_the_work(name: str, base: str) -> bool:
    own, _, overload = name.partition(".")
    return own == base and overload.endswith(("out", "values"))


def name_of(entry: dict[str, Any]) -> str:
    return str(entry["func"]).split("(")[0]


def main() -> None:
    table = {name_of(entry): entry for entry in yaml.safe_load(TABLE.read_text())}
    lacking = sorted(name for name, entry in table.items() if lacks_mps(entry, table))
    made = {"torch": torch.__version__.split("+")[0], "operators": len(table), "without_mps": lacking}
    TARGET.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
