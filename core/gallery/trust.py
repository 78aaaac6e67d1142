"""The one question of the gallery: whether scores that stand in files count."""

from __future__ import annotations


class Trust:
    """The answer, for as long as the program runs. A host that has settings keeps it there."""

    later = "The gallery asks again when it is started anew."  # where the answer can be changed

    def __init__(self) -> None:
        self._answer: bool | None = None

    def answer(self) -> bool | None:
        """None: nobody was asked yet."""
        return self._answer

    def remember(self, answer: bool) -> None:
        """Takes the user's answer."""
        self._answer = answer
