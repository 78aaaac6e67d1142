"""File names that every system takes: on Windows `con`, `a:b` and `end.` name a device, a stream or another file."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_LONGEST = 200  # bytes; most file systems take 255, and numbers and endings are added


def why_no_file_name(name: str) -> str:
    """Why a name of one file or folder will not do on some system, in words that follow "it"; "" if it will."""
    found = _FORBIDDEN.search(name)
    if not name.strip(". "):
        return "holds no letter"
    if found is not None:
        return f"holds {found[0]!r}"
    if _DEVICE.fullmatch(name.partition(".")[0].rstrip(" ")):
        return "is the name of a device on Windows"
    if name[-1] in ". " or name[0] == " ":
        return "begins or ends in a space, or ends in a dot"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        return f"is longer than {_LONGEST} bytes"
    return ""
