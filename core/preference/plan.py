"""Which comparisons are computed together, so that an image is run once for all of its comparisons.

The comparisons of a ranking go into one step, as Ouyang et al. 2022 (arXiv 2203.02155, section 3.5) train their reward model:
an image that came back step after step would be learned by heart within an epoch.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

import torch

Group = list[int]  # comparisons by their numbers
OPEN = 16  # batches that may still be filled up


class Plan:
    """Comparisons by number; `better` and `worse` say of which images each is, by number too."""

    def __init__(self, better: Sequence[int], worse: Sequence[int]) -> None:
        self.ends = list(zip(better, worse, strict=True))
        self.groups = _joined(self.ends)

    def images(self, comparisons: Iterable[int]) -> set[int]:
        return {image for i in comparisons for image in self.ends[i]}

    def steps(self, size: int, generator: torch.Generator) -> list[list[Group]]:
        """An epoch in random order: the groups of each step.

        There are as many steps as batches of `size` would be, and as equal as the groups allow: one of up to `size`
        comparisons stays whole, so that a step may have a few more or fewer.
        """
        slices: list[Group] = []
        for number in torch.randperm(len(self.groups), generator=generator).tolist():
            group = self.groups[number]
            if len(group) > size:
                group = [group[i] for i in torch.randperm(len(group), generator=generator).tolist()]
            slices += [group[i : i + size] for i in range(0, len(group), size)]
        return _dealt(slices, -(-len(self.ends) // size), len)

    def batches(self, groups: Iterable[Group], images: int, rank: int = 0, world: int = 1) -> list[Group]:
        """What the process `rank` of `world` computes of the groups, in batches of at most `images` images (at least 2)."""
        parts = [part for group in groups for part in self._parts(group, images)]
        own = _dealt(parts, world, lambda part: len(self.images(part)))[rank]
        return self._filled(own, images)

    def _parts(self, group: Group, images: int) -> list[Group]:
        """The group itself, or, if it has too many images, parts in which as few as possible come twice."""
        if len(self.images(group)) <= images:
            return [group]
        return self._filled([[i] for i in sorted(group, key=lambda i: sorted(self.ends[i]))], images)

    def _filled(self, parts: Iterable[Group], images: int) -> list[Group]:
        batches: list[tuple[Group, set[int]]] = []
        for part in parts:
            needed = self.images(part)
            for batch, present in batches[-OPEN:]:
                if len(present | needed) <= images:
                    batch += part
                    present |= needed
                    break
            else:
                batches.append((list(part), needed))
        return [batch for batch, _ in batches]


def _joined(ends: Sequence[tuple[int, int]]) -> list[Group]:
    """Comparisons that share images, directly or through others, in one group."""
    above: dict[int, int] = {}

    def root(image: int) -> int:
        while above.setdefault(image, image) != image:
            above[image] = image = above[above[image]]
        return image

    for one, other in ends:
        above[root(one)] = root(other)
    groups: dict[int, Group] = {}
    for number, (image, _) in enumerate(ends):
        groups.setdefault(root(image), []).append(number)
    return list(groups.values())


def _dealt(groups: Iterable[Group], count: int, cost: Callable[[Group], int]) -> list[list[Group]]:
    """The groups in `count` shares: each goes where the costs are lowest so far."""
    shares: list[list[Group]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for group in groups:
        load, number = loads[0]
        shares[number].append(group)
        heapq.heapreplace(loads, (load + cost(group), number))
    return shares
