"""What a downloadable file is, as data. Each scorer lists its own files; what several share stands here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One file of a Hub repository."""

    repo: str  # "THUDM/ImageReward"
    file: str  # path inside the repository
    size: int  # bytes, about: what a person is told before the download; the Hub's own number is what is checked
    sha256: str  # lower-case hex; "" = not known: the Hub's own hash is checked instead
    licence: str
    save_as: str = ""  # name on disk when `file` alone says too little ("model.safetensors")

    @property
    def name(self) -> str:
        """The name under which the file is kept in the weights folder."""
        return self.save_as or self.file.rsplit("/", 1)[-1]

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}/resolve/main/{self.file}"


BERT_VOCABULARY = WeightFile(
    repo="google-bert/bert-base-uncased",
    file="vocab.txt",
    size=231508,
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    licence="Apache-2.0",
    save_as="bert-base-uncased-vocab.txt",
)
