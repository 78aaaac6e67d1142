"""A stand-in for models of videos: for a prompt with `FRAMES`, each batch yields four images more than it has prompts, as
Forge Neo's do, and the host goes on with the last prompt and seed."""

import inspect

from modules import scripts

MORE = 4


class Frames(scripts.Script):
    def title(self):
        return "Frames of a video"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return None

    def postprocess_batch_list(self, p, pp, *args, **kwargs):
        if "FRAMES" not in p.prompts[0]:
            return
        last = pp.images[-1]
        pp.images[:] = [*pp.images, *(last.roll(8 * (i + 1), -1) for i in range(MORE))]
        for name in ("prompts", "negative_prompts", "seeds", "subseeds"):
            setattr(p, name, LastForAllBehind(getattr(p, name)))


class LastForAllBehind(list):
    """The host reads the lists of such a batch by `min(i, len(items) - 1)`; to everybody else they are as short as they are."""

    def __getitem__(self, index):
        reader = inspect.currentframe().f_back.f_globals["__name__"]
        if isinstance(index, int) and reader.startswith("modules."):
            index = min(index, len(self) - 1)
        return super().__getitem__(index)
