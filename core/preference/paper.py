"""Numbers that Xu et al. 2023 (arXiv 2304.05977) published, shown beside ours where the same full set is evaluated."""

from __future__ import annotations

from collections.abc import Iterable

# Table 3, column Preference Acc., in percent.
PREFERENCE_ACCURACY = {"imagereward": 65.14, "clip": 54.82, "aesthetic": 57.35, "blip": 57.76}
# The set behind it: data/test.json of THUDM/ImageReward; 7,230 pairs, of which people tied 831.
TEST_PROMPTS, TEST_PAIRS = 466, 6399

# Table 1, real user prompts: mean score by model, under the folder names of the reference's generations.
MODEL_SCORES = {
    "imagereward": {
        "openjourney": 0.2614,
        "sd2-1": 0.2458,
        "dalle2": 0.2114,
        "sd1-4": 0.1344,
        "vd": -0.2470,
        "cogview2": -1.2376,
    },
    "clip": {
        "openjourney": 0.2726,
        "sd2-1": 0.2683,
        "dalle2": 0.2684,
        "sd1-4": 0.2763,
        "vd": 0.2606,
        "cogview2": 0.2044,
    },
}
BENCHMARK_PROMPTS, BENCHMARK_IMAGES = 100, 10


def published_accuracy(scorer: str, prompts: int, pairs: int) -> float | None:
    """Table 3's accuracy (0..1), if this is its test set."""
    if (prompts, pairs) != (TEST_PROMPTS, TEST_PAIRS) or scorer not in PREFERENCE_ACCURACY:
        return None
    return PREFERENCE_ACCURACY[scorer] / 100.0


def published_score(scorer: str, model: str, image_counts: Iterable[int]) -> float | None:
    """Table 1's mean score of a model, if each of the 100 prompts has its ten images."""
    if list(image_counts) != [BENCHMARK_IMAGES] * BENCHMARK_PROMPTS:
        return None
    return MODEL_SCORES.get(scorer, {}).get(model)
