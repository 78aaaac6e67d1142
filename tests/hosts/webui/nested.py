"""A stand-in for extensions that repair details: for a prompt with `NESTED`, each image goes once more through img2img
before it is finished, in a generation of its own inside the running one."""

from modules import processing, scripts


class Nested(scripts.Script):
    def title(self):
        return "A nested generation"  # some hosts call hooks in the order of the titles

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return None

    def postprocess_image(self, p, pp, *args):
        if not any("NESTED" in prompt for prompt in p.prompts):
            return
        inner = processing.StableDiffusionProcessingImg2Img(
            sd_model=p.sd_model,
            init_images=[pp.image],
            prompt="a detail",
            negative_prompt="",
            seed=p.seeds[p.batch_index],
            steps=p.steps,
            width=p.width,
            height=p.height,
            sampler_name=p.sampler_name,
            denoising_strength=0.5,
            do_not_save_samples=True,
            do_not_save_grid=True,
        )
        inner.scripts, inner.script_args = p.scripts, p.script_args
        pp.image = processing.process_images(inner).images[0]
