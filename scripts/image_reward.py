"""The door of AUTOMATIC1111's WebUI, Forge and reForge. It holds no logic.

Mounts the root of this repository as the package `sd_imagereward`, registers the callbacks and shows the host its
scripts: the host takes every Script class it finds among this file's names.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent

if "sd_imagereward" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "sd_imagereward", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["sd_imagereward"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["sd_imagereward"])
elif "sd_imagereward.sdwebui_extension" in sys.modules:
    other = Path(str(sys.modules["sd_imagereward"].__file__)).parent
    if other != ROOT:  # two copies would score every image twice
        raise RuntimeError(f"The ImageReward extension is installed twice, in {other} and {ROOT}: remove one of them.")

from sd_imagereward.sdwebui_extension import callbacks  # noqa: E402  (the package is mounted just above)
from sd_imagereward.sdwebui_extension.companion import ImageRewardCompanion  # noqa: E402, F401  (seen by the host)
from sd_imagereward.sdwebui_extension.extras import ImageRewardStep  # noqa: E402, F401  (seen by the host)
from sd_imagereward.sdwebui_extension.script import ImageRewardScript  # noqa: E402, F401  (seen by the host)

callbacks.register()
