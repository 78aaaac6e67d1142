"""How large a picture file may be: far beyond what people make, and small enough that no file takes the machine.

A user who has larger ones sets the environment variable that the message names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import ImageRewardError, ImageUnavailable


@dataclass(frozen=True)
class Limit:
    """The most of something that a file may hold. It is read anew each time, so that a host may change it while it runs."""

    variable: str  # of the environment
    default: int
    unit: str

    @property
    def most(self) -> int:
        text = os.environ.get(self.variable, "").replace("_", "").strip()
        if not text:
            return self.default
        if not text.isdecimal() or int(text) == 0:
            raise ImageRewardError(f"expected a whole number of {self.unit} in {self.variable}, got {text!r}")
        return int(text)

    def check(self, amount: int, share: int = 1) -> None:
        """Raises ImageUnavailable, since the same file can be read under another limit. share: that part of it counts."""
        most = self.most // share
        if amount > most:
            raise ImageUnavailable(
                f"{amount:,} {self.unit} are more than the limit of {most:,}. "
                f"To read it, set {self.variable}={amount * share} in the environment"
            )


FILE_BYTES = Limit("IMAGEREWARD_MAX_FILE_BYTES", 512 << 20, "bytes")
PIXELS = Limit("IMAGEREWARD_MAX_PIXELS", 3 * 8192**2, "pixels")  # 201 megapixels, for which Pillow takes 0.8 GB
SIDE = Limit("IMAGEREWARD_MAX_SIDE", 1 << 20, "pixels a side")
TEXT_BYTES = Limit("IMAGEREWARD_MAX_TEXT_BYTES", 64 << 20, "bytes of text")  # after they are unpacked
