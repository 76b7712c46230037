"""What the figures of one trained member show: latents, reconstructions, samples, and samples with injected latents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_spec.backend.precision import full_precision
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.hierarchy import Hierarchy, units_first
from hvae_spec.nn.random import Streams

LATENTS = 1000
"""Test images whose latents are kept, at most."""
IMAGES = 16
"""Test images that are kept and reconstructed, at most; rows of injected samples."""
PRIOR_SAMPLES = 64
INJECTIONS = 8
"""Injected samples per row."""


@full_precision()
@torch.inference_mode()
def gallery(model: Hierarchy, x: Tensor, labels: Tensor, seed: int = 0, epoch: int = 0) -> dict[str, Tensor]:
    """The arrays that `hvae_spec.records.gallery_file` describes, on the CPU.

    `injected/i` is Fig. 6b: z_i* ~ N(0, I) takes the place of a sample of layer i, the layers below it come from the
    generative model, p(z_{i-1}|z_i*) ... p(z_1|z_2), and what is kept is E[x|z_1]. The layers above come from the
    prior. The paper leaves them open ("generative model outputs created by injecting samples z* ~ N(0, I) at different
    layers"), and in its models nothing depends on it: given z_i*, x is independent of the layers above, so taking them
    from the posterior of a test image would give the same samples. With skip connections x depends on them, and what
    is kept is E[x|z_1 ... z_L]. Hence rows stand for no image, and all n x 8 samples are independent. In `injected/L`
    they are samples of the model's own prior. The noise of a layer is the same in all `injected/i`, so the same place
    in two of them shows what another layer of injection changes, and nothing else. With classes, latents and
    reconstructions are those of the likeliest class of every image, and y of all samples is from p(y).

    Args:
        model: one member (M = 1), its batch-norm statistics recorded.
        x: test images [N, D].
        labels: their classes, [N].
        seed: the member's seed.
        epoch: epochs trained so far; selects the noise together with the seed.

    """
    model = fuse_batch_norm(model)
    streams = Streams([seed], model.device)

    def mean(latents: Sequence[Tensor], y: Tensor | None) -> Tensor:
        return model.generative.likelihood.mean(model.generative.seen(latents, y))

    x = x[:LATENTS].to(model.device)
    images = units_first(x[None])
    noise = model.noise(streams.begin("latents of the gallery", epoch), 1, len(x))
    drawn = model.draw(images, model.known(images), noise)
    latents, y = drawn.latents, drawn.y
    shown = x[:IMAGES]
    top = model.top()
    noise = model.prior_noise(streams, "prior samples of the gallery", 1, PRIOR_SAMPLES, epoch)
    of_prior = model.prior_classes(streams, "prior samples of the gallery", 1, PRIOR_SAMPLES, epoch)
    arrays = {
        "labels": labels[:LATENTS].to(torch.int64),
        "images": shown,
        "reconstructions": mean([z[..., :IMAGES] for z in latents], None if y is None else y[..., :IMAGES])[0, :, 0].mT,
        "prior_samples": mean(model.ancestral(noise, top=top, y=of_prior), of_prior)[0, :, 0].mT,
    }
    noise = model.prior_noise(streams, "injected samples of the gallery", INJECTIONS, len(shown), epoch)
    of_prior = model.prior_classes(streams, "injected samples of the gallery", INJECTIONS, len(shown), epoch)
    for layer, z in enumerate(latents, start=1):
        arrays[f"latents/{layer}"] = z[0, :, 0].mT
        injected = model.ancestral(noise, layer, top, of_prior)
        arrays[f"injected/{layer}"] = mean(injected, of_prior)[0].permute(2, 1, 0)
    return {name: array.cpu().contiguous() for name, array in arrays.items()}
