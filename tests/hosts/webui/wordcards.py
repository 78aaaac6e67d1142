"""A stand-in for wildcard extensions, put beside ours in the host: `WORDCARD` in a prompt becomes a word an image."""

from modules import scripts

WORDS = ("castle", "robot", "dragon", "river", "city", "woman")


class WordCards(scripts.Script):
    def title(self):
        return "Word cards"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return None

    def process(self, p, *args):
        p.all_prompts = [text.replace("WORDCARD", WORDS[i % len(WORDS)]) for i, text in enumerate(p.all_prompts)]
