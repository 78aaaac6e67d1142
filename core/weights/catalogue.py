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
    address: str = ""  # where a person gets it when the Hub does not have it
    also: tuple[str, ...] = ()  # other names under which people have the same weights

    @property
    def name(self) -> str:
        """The name under which the file is kept in the weights folder."""
        return self.save_as or self.file.rsplit("/", 1)[-1]

    @property
    def url(self) -> str:
        return self.address or f"https://huggingface.co/{self.repo}/resolve/main/{self.file}"


BERT_VOCABULARY = WeightFile(
    repo="google-bert/bert-base-uncased",
    file="vocab.txt",
    size=231508,
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    licence="Apache-2.0",
    save_as="bert-base-uncased-vocab.txt",
)

CLIP_L14 = WeightFile(
    repo="openai/clip-vit-large-patch14",
    file="model.safetensors",
    size=1_710_540_580,
    sha256="",
    licence="MIT",
    save_as="clip-vit-large-patch14.safetensors",
    also=("ViT-L-14.pt",),  # OpenAI's own, which its `clip` package keeps in ~/.cache/clip
)
CLIP_VOCABULARY = WeightFile(
    repo="openai/clip-vit-large-patch14",
    file="vocab.json",
    size=961_143,
    sha256="",
    licence="MIT",
    save_as="clip-vocab.json",
)
CLIP_MERGES = WeightFile(
    repo="openai/clip-vit-large-patch14",
    file="merges.txt",
    size=524_619,
    sha256="",
    licence="MIT",
    save_as="clip-merges.txt",
)
