"""Well-formed specs that are inconsistent: each contradiction is found, and its consistent neighbor passes."""

import pytest

from hvae_spec.reading import loads
from hvae_spec.spec.grid import members
from tests.spec.small_spec import SMALL, edited, place_of, problems

THREE = "[{units: 3, mlp: []}, {units: 2, mlp: []}, {units: 1, mlp: []}]"
TWO_MAPS = "- {units: 4, mlp: [16, 16], mlp_top_down: [8]}"
LADDER = "model:\n  inference: ladder\n  share_top_down: true"
THIRD = ("[16, 16]}", "[16, 16]}\n    - {units: 2, mlp: [8]}")
"""With two layers, inference has no skip connections that could be missing."""


def grid(*lines: str) -> str:
    return SMALL + "grid:\n" + "".join(f"  {line}\n" for line in lines)


def scheduled(schedule: str) -> str:
    return edited(("epochs: 20", f"epochs: 20, schedule: {schedule}"))


STOPPING = "epochs: 20, early_stopping: {patience: 2}"


def stopping(validation: int = 100, every: str = "5", warm_up: int = 0, training: str = STOPPING) -> str:
    return edited(
        ("digits}", f"digits, validation: {validation}}}"),
        ("epochs: 20", training),
        more=f"evaluation: {{every: {every}}}\nobjective: {{warm_up: {warm_up}}}\n",
    )


# the bad text, where the problem starts, words of the message, its good neighbor
PAIRS = [
    (
        edited(("model:", "model:\n  flow: planar"), more="objective: {estimator: stl}\n"),
        "stl",
        "the estimator stl with a flow of z_1",
        edited(("model:", "model:\n  flow: none"), more="objective: {estimator: stl}\n"),
    ),
    (
        edited(("[16, 16]", "[16, 16], flow: iaf"), more="objective: {free_bits: {nats: 1}}\n"),
        "{nats",
        "free bits per unit, and the KL of z_2 is of the layer as a whole",
        edited(("[16, 16]", "[16, 16], flow: iaf"), more="objective: {free_bits: {nats: 1, per: layer}}\n"),
    ),
    (
        edited(
            ("model:", "model:\n  flow: iaf"), ("epochs: 20", "epochs: 20, first_phase: {epochs: 3, estimator: dreg}")
        ),
        "dreg",
        "the estimator dreg with a flow of z_1",
        edited(("epochs: 20", "epochs: 20, first_phase: {epochs: 3, estimator: dreg}")),
    ),
    (
        edited(("model:", "model:\n  auxiliary: {units: 3}"), more="objective: {estimator: stl}\n"),
        "stl",
        "the estimator stl with an auxiliary variable",
        edited(("model:", "model:\n  auxiliary: null"), more="objective: {estimator: stl}\n"),
    ),
    (
        edited(
            ("model:", "model:\n  auxiliary: {units: 3}"),
            ("epochs: 20", "epochs: 20, first_phase: {epochs: 3, beta: [1, 2]}"),
        ),
        "[1, 2]",
        "a weight for every layer with an auxiliary variable, which is of no layer",
        edited(
            ("model:", "model:\n  auxiliary: {units: 3}"),
            ("epochs: 20", "epochs: 20, first_phase: {epochs: 3, beta: [2, 2]}"),
        ),
    ),
    (
        edited(("model:", "model:\n  auxiliary: {}\n  prior: {vamp: 9}\n  inference: ladder")),
        "{vamp",
        "the prior vamp is made of q(z_2|x), which is an integral over an auxiliary variable",
        edited(("model:", "model:\n  auxiliary: {}\n  prior: {mixture: 9}\n  inference: ladder")),
    ),
    (
        edited(("model:", "model:\n  auxiliary: {}"), more="evaluation: {refine: {steps: 3}}\n"),
        "{steps",
        "a refinement with an auxiliary variable",
        edited(("model:", "model:\n  auxiliary: {}"), more="evaluation: {probe: {labels: [100]}}\n"),
    ),
    (
        edited(("model:", "model:\n  auxiliary: {}\n  inference: ladder\n  inference_steps: 7")),
        "7",
        "several sweeps of inference with an auxiliary variable",
        edited(("model:", "model:\n  auxiliary: {}\n  inference: ladder")),
    ),
    (
        edited(("model:", "model:\n  auxiliary: {mlp: [4, 1]}\n  norm: layer")),
        "[4, 1]",
        "layer normalization of a hidden layer of one unit",
        edited(("model:", "model:\n  auxiliary: {mlp: [4, 1]}\n  norm: batch")),
    ),
    (
        edited(("model:", "model:\n  prior: {vamp: 9}")),
        "{vamp",
        "the prior vamp is made of q(z_2|x), which vae inference does not have",
        edited(("model:", "model:\n  prior: {vamp: 9}\n  inference: ladder")),
    ),
    (
        edited(("model:", "model:\n  flow: iaf\n  prior: {vamp: 9}\n  inference: ladder")),
        "{vamp",
        "the prior vamp takes the density of q(z_2|x) at any z_2: with a flow of it",
        edited(
            ("[16, 16]", "[16, 16], flow: none"),
            ("model:", "model:\n  flow: iaf\n  prior: {vamp: 9}\n  inference: ladder"),
        ),
    ),
    (
        edited(
            ("model:", "model:\n  prior: {vamp: 1438}\n  inference: ladder"),
            ("digits", "digits, copies: 3, train_images: 2000"),
        ),
        "{vamp",
        "1438 pseudo-inputs start at different training images, of which there are 1437",
        edited(
            ("model:", "model:\n  prior: {vamp: 1437}\n  inference: ladder"),
            ("digits", "digits, copies: 3, train_images: 2000"),
        ),
    ),
    (
        edited(("model:", "model:\n  prior: {vamp: 33}\n  inference: ladder"), ("digits", "digits, train_images: 32")),
        "{vamp",
        "33 pseudo-inputs start at different training images, of which there are 32",
        edited(("model:", "model:\n  prior: {vamp: 32}\n  inference: ladder"), ("digits", "digits, train_images: 32")),
    ),
    (
        edited(("model:", "model:\n  prior: realnvp"), ("units: 4", "units: 1")),
        "realnvp",
        "the prior realnvp of 1 unit: it is one of 2 or more",
        edited(("model:", "model:\n  prior: realnvp"), ("units: 4", "units: 2")),
    ),
    (
        edited(("model:", "model:\n  prior: mixture"), more="objective: {free_bits: {nats: 1, per: unit}}\n"),
        "{nats",
        "free bits per unit, and the KL of z_2 is of the layer as a whole",
        edited(("model:", "model:\n  prior: mixture"), more="objective: {free_bits: {nats: 1, per: layer}}\n"),
    ),
    (
        edited(("[16, 16]", "[16, 1]"), ("model:", "model:\n  norm: layer")),
        "[16, 1]",
        "layer normalization of a hidden layer of one unit",
        edited(("[16, 16]", "[16, 1]"), ("model:", "model:\n  norm: batch")),
    ),
    (
        edited(more="objective: {warm_up: {cycles: 2, over: 22}}\n"),
        "{cycles",
        "2 cycles of warm-up over 22 epochs are longer than training (20 epochs)",
        edited(more="objective: {warm_up: {cycles: 2, over: 20}}\n"),
    ),
    (
        edited(more="objective: {warm_up: {cycles: 3, over: 20}}\n"),
        "{cycles",
        "20 epochs make no 3 cycles of two whole epochs or more",
        edited(more="objective: {warm_up: {cycles: 3, over: 18}}\n"),
    ),
    (
        edited(more="objective: {beta: [1, 1, 2]}\n"),
        "[1, 1",
        "3 weights of the KL for 2 layers",
        edited(more="objective: {beta: [1, 2]}\n"),
    ),
    (
        edited(more="objective: {beta: [1, 2], estimator: dreg}\n"),
        "[1, 2",
        "a weight for every layer with the estimator dreg",
        edited(more="objective: {beta: [2, 2], estimator: dreg}\n"),
    ),
    (
        edited(("model:", "model:\n  batch_norm: true"), more="objective: {estimator: dreg, iw_samples: 5}\n"),
        "dreg",
        "the estimator dreg with batch normalization",
        edited(more="objective: {estimator: dreg, iw_samples: 5}\n"),
    ),
    (
        edited(more="objective: {free_bits: {nats: 0.5}, iw_samples: 5}\n"),
        "{nats",
        "free bits with 5 importance samples",
        edited(more="objective: {free_bits: {nats: 0.5}, mc_samples: 5}\n"),
    ),
    (
        edited(more="objective: {estimator: stl, iw_samples: 5}\n"),
        "stl",
        "the estimator stl with 5 importance samples, for which it is biased",
        edited(more="objective: {estimator: dreg, iw_samples: 5}\n"),
    ),
    (
        edited(more="objective: {estimator: dreg, iw_samples: 5, elbo_share: 0.1}\n"),
        "0.1",
        "a share of the ELBO with the estimator dreg",
        edited(more="objective: {iw_samples: 5, elbo_share: 0.1}\n"),
    ),
    (stopping(validation=0), "{patience", "without a validation set: data.validation is 0", stopping()),
    (stopping(every="null"), "{patience", "evaluation.every is null", stopping(every="20")),
    (stopping(every="21"), "{patience", "none of the training (every 21 of 20 epochs)", stopping(every="20")),
    (
        stopping(every="9", warm_up=19),
        "{patience",
        "comes after the end of warm-up (19 epochs)",
        stopping(every="9", warm_up=18),
    ),
    (
        stopping(training=f"{STOPPING}, first_phase: {{epochs: 4}}"),
        "{patience",
        "none of the first phase (every 5 of 4 epochs)",
        stopping(training=f"{STOPPING}, first_phase: {{epochs: 5}}"),
    ),
    (
        edited(("digits}", "digits, validation: 1437}")),
        "1437}",
        "a validation set of 1437 images leaves none of the 1437 training images of digits",
        edited(("digits}", "digits, validation: 1300}")),
    ),
    (
        edited(("digits}", "digits, validation: 1400, train_images: 38}")),
        "38}",
        "train_images is 38, but digits has only 37 beside its 1400 validation images",
        edited(("digits}", "digits, validation: 1400, train_images: 37}")),
    ),
    (
        edited(more="evaluation: {ais: {images: 361, steps: 10}}\n"),
        "361",
        "361 images for annealed importance sampling of 360 test images",
        edited(more="evaluation: {ais: {images: 360, steps: 10}}\n"),
    ),
    (
        edited(more="evaluation: {refine: {images: 361}}\n"),
        "361",
        "361 images for a refinement of 360 test images",
        edited(more="evaluation: {refine: {images: 360}}\n"),
    ),
    (
        edited(("digits}", "frey}"), more="evaluation: {probe: {}}\n"),
        "{}",
        "a probe of classes, of which the images of frey have none",
        edited(more="evaluation: {probe: {}}\n"),
    ),
    (
        edited(more="evaluation: {probe: {labels: [all, 1438]}}\n"),
        "1438",
        "1438 labels for the probe of 1437 different training images",
        edited(more="evaluation: {probe: {labels: [all, 1437]}}\n"),
    ),
    (
        edited(("digits", "digits, copies: 3"), more="evaluation: {probe: {labels: [4000]}}\n"),
        "4000",
        "4000 labels for the probe of 1437 different training images",
        edited(("digits", "digits, copies: 3"), more="evaluation: {probe: {labels: [1437]}}\n"),
    ),
    (
        edited(more="evaluation: {probe: {labels: [19]}}\n"),
        "19",
        "19 labels for the probe of 10 classes",
        edited(more="evaluation: {probe: {labels: [20]}}\n"),
    ),
    (
        edited(more="objective: {warm_up: 21}\n"),
        "21}",
        "longer than training (20 epochs)",
        edited(more="objective: {warm_up: 20}\n"),
    ),
    (
        grid("variants: {A: {objective.warm_up: 21}, B: {}}"),
        "21}",
        "variant 'A' at depth 2",
        grid("variants: {A: {objective.warm_up: 20}, B: {}}"),
    ),
    (
        edited(more="objective: {warm_up: 10}\ngrid: {variants: {A: {training.epochs: 9}, B: {}}}\n"),
        "10}",
        "training (9 epochs): beta would never reach 1 (variant 'A'",
        edited(more="objective: {warm_up: 10}\ngrid: {variants: {A: {training.epochs: 10}, B: {}}}\n"),
    ),
    (
        edited(more="objective: {warm_up: 30}\ngrid: {variants: {A: {objective.warm_up: 5}, B: {}}}\n"),
        "30}",
        "variant 'B'",
        edited(more="objective: {warm_up: 30}\ngrid: {variants: {A: {objective.warm_up: 5}}}\n"),
    ),
    (
        edited(
            ("epochs: 20", "epochs: 20, lr_decay: {factor: 0.5, every: 2}, schedule: {stages: [{epochs: 1, lr: 1}]}")
        ),
        "{stages",
        "schedule beside lr_decay",
        edited(("epochs: 20", "epochs: 20, lr_decay: null, schedule: {stages: [{epochs: 1, lr: 1}]}")),
    ),
    (
        edited(
            (
                "epochs: 20",
                "epochs: 20, schedule: {stages: [{epochs: 5, lr: 1}, {epochs: 15, lr: 1}, {epochs: 1, lr: 2}]}",
            )
        ),
        "{epochs: 1, lr: 2}",
        "stage 3 begins in epoch 21, and training ends with epoch 20",
        edited(
            (
                "epochs: 20",
                "epochs: 20, schedule: {stages: [{epochs: 5, lr: 1}, {epochs: 14, lr: 1}, {epochs: 9, lr: 2}]}",
            )
        ),
    ),
    *(
        (scheduled(faulty), value, message, scheduled(right))
        for faulty, value, message, right in (
            (
                "{cosine: {over: 40, ramp: 21}}",
                "21}",
                "a ramp of 21 epochs is longer than training (20 epochs): the learning rate would never reach the",
                "{cosine: {over: 40, ramp: 20}}",
            ),
            (
                "{step: {factor: 0.5, every: 1, ramp: 21}}",
                "21}",
                "a ramp of 21 epochs is longer than training (20 epochs)",
                "{step: {factor: 0.5, every: 1, ramp: 20}}",
            ),
            (
                "{linear: {over: 5, to: 0.5, ramp: 5}}",
                "5, to",
                "a ramp of 5 epochs leaves none of the 5 epochs for the learning rate to fall in",
                "{linear: {over: 6, to: 0.5, ramp: 5}}",
            ),
            (
                "{cosine: {over: 19}}",
                "{cosine",
                "the learning rate is below 1.1754944e-38 after epoch 19, where float32 loses it",
                "{cosine: {over: 20}}",
            ),
            (
                "{linear: {over: 19, to: 1e-300}}",
                "{linear",
                "the learning rate is below 1.1754944e-38 after epoch 19, where float32 loses it",
                "{linear: {over: 19, to: 1e-3}}",
            ),
            (
                "{step: {factor: 1e-9, every: 4}}",
                "{step",
                "the learning rate is below 1.1754944e-38 after epoch 16, where float32 loses it",
                "{step: {factor: 1e-9, every: 5}}",
            ),
        )
    ),
    (
        edited(("epochs: 20", "epochs: 20, optimizer: {sgd: {nesterov: true, momentum: 0}}")),
        "true",
        "Nesterov's momentum without momentum: it is 0",
        edited(("epochs: 20", "epochs: 20, optimizer: {sgd: {nesterov: true, momentum: 0.1}}")),
    ),
    (
        edited(("model:", "model:\n  norm: {batch: {heads: false}}"), ("batch_size: 32", "batch_size: 1")),
        "1}",
        "needs more than one image",
        edited(("model:", "model:\n  norm: layer"), ("batch_size: 32", "batch_size: 1")),
    ),
    (
        edited(("model:", "model:\n  batch_norm: true"), ("batch_size: 32", "batch_size: 1")),
        "1}",
        "more than one image in a batch",
        edited(("model:", "model:\n  batch_norm: true"), ("batch_size: 32", "batch_size: 2")),
    ),
    (
        edited(("model:", "model:\n  batch_norm: true"), ("size: 32", "size: 4, last_batch: keep")),
        "keep",
        "a single image (1437 = 1 modulo 4)",
        edited(("model:", "model:\n  batch_norm: true"), ("size: 32", "size: 4, last_batch: drop")),
    ),
    (
        edited(("model:", "model:\n  batch_norm: true"), ("size: 32", "size: 1436, last_batch: keep")),
        "keep",
        "a single image",
        edited(("model:", "model:\n  batch_norm: false"), ("size: 32", "size: 1436, last_batch: keep")),
    ),
    (
        edited(("batch_size: 32", "batch_size: 1438")),
        "1438",
        "larger than the training set (1437 images)",
        edited(("batch_size: 32", "batch_size: 1437")),
    ),
    (
        edited(("digits}", "digits, train_images: 31}")),
        "32}\n",
        "larger than the training set (31 images)",
        edited(("digits}", "digits, train_images: 32}")),
    ),
    (
        edited(("digits}", "digits, train_images: 1438}")),
        "1438",
        "digits has only 1437",
        edited(("digits}", "digits, train_images: 1437}")),
    ),
    (
        edited(("digits}", "digits, test_images: 361}")),
        "361",
        "digits has only 360",
        edited(("digits}", "digits, test_images: 360}")),
    ),
    (
        edited(("model:", "model:\n  share_top_down: true")),
        "true",
        "no top-down path to share",
        edited(("model:", LADDER)),
    ),
    (
        edited(("model:", LADDER), ("- {units: 4, mlp: [16, 16]}", TWO_MAPS)),
        "[8]",
        "widths [16, 16], not [8]",
        edited(("model:", LADDER), ("- {units: 4, mlp: [16, 16]}", TWO_MAPS.replace("[8]", "[16, 16]"))),
    ),
    (
        edited(("model:", LADDER), ("- {units: 4, mlp: [16, 16]}", TWO_MAPS)),
        "[8]",
        "a shared top-down path",
        edited(
            ("model:", LADDER.replace("true", "false")),
            ("- {units: 4, mlp: [16, 16]}", TWO_MAPS),
        ),
    ),
    (
        edited(("model:", "model:\n  inference: ladder"), ("[32, 32]", "[32, 32], mlp_top_down: [8]")),
        "[8]",
        "no top-down inference mapping out of z_1",
        edited(("model:", "model:\n  inference: ladder"), ("[16, 16]", "[16, 16], mlp_top_down: [8]")),
    ),
    (
        edited(("model:", "model:\n  inference: top_down\n  share_top_down: true")),
        "true",
        "take the evidence of x too, so that they are none of the generative model's",
        edited(("model:", "model:\n  inference: top_down\n  share_top_down: false")),
    ),
    (
        edited(("model:", f"{LADDER}\n  skip: generative"), THIRD),
        "generative",
        "its mappings would take other latents in inference",
        edited(("model:", f"{LADDER}\n  skip: both"), THIRD),
    ),
    (
        grid("variants: {A: {model.skip: generative}, B: {model.skip: both}}"),
        "B: {",
        "variants 'A' and 'B' resolve to the same model at depth 2",
        grid("variants: {A: {model.skip: none}, B: {model.skip: both}}"),
    ),
    (grid("depth: [1, 3]"), "3]\n", "depth 3 is more than the 2 layers", grid("depth: [1, 2]")),
    (
        grid("depth: [1, 2]", "variants: {A: {}, B: {model.layers: [{units: 1, mlp: []}]}}"),
        "2]\n",
        "more than the 1 layers of the model (variant 'B'",
        grid("depth: [1]", "variants: {A: {}, B: {model.layers: [{units: 1, mlp: []}]}}"),
    ),
    (grid("depth: [1, 1]"), "1]", "depth 1 is listed twice", grid("depth: [1, 2]")),
    (grid("seeds: [7, 8, 7]"), "7]", "seed 7 is listed twice", grid("seeds: [7, 8, 9]")),
    (
        grid("axes: {training.epochs: [5, 6, 5]}"),
        "5]}",
        "value 5 is listed twice",
        grid("axes: {training.epochs: [5, 6, 7]}"),
    ),
    (
        grid("axes: {model.layers.0.mlp: [[1], [2], [1]]}"),
        "[1]]",
        "value [1] is listed twice",
        grid("axes: {model.layers.0.mlp: [[1], [2], []]}"),
    ),
    (
        grid("axes: {training.optimizer.adam.lr: [1, 1.0]}"),
        "1.0",
        "listed twice",
        grid("axes: {training.optimizer.adam.lr: [1, 1.1]}"),
    ),
    (
        grid("variants: {A: {}, B: {model.inference: vae}}"),
        "B: {",
        "variants 'A' and 'B' resolve to the same model at depth 2",
        grid("variants: {A: {}, B: {model.inference: ladder}}"),
    ),
    (
        grid("depth: [1, 2]", "axes: {model.layers.1.units: [4, 5]}"),
        "5]",
        "levels 4 and 5 of model.layers.1.units resolve to the same model with variant 'VAE' at depth 1",
        grid("depth: [1, 2]", "axes: {model.layers.1.units: [4, 5]}", "exclude: [{depth: 1, model.layers.1.units: 5}]"),
    ),
    (
        grid("variants: {A: {}}", "exclude: [{variant: B}]"),
        "B}]",
        "no variant is the text 'B'",
        grid("variants: {A: {}, B: {model.inference: ladder}}", "exclude: [{variant: B}]"),
    ),
    (
        grid("depth: [1, 2]", "exclude: [{depth: 3}]"),
        "3}]",
        "the excluded cell does not exist: no depth is 3",
        grid("depth: [1, 2]", "exclude: [{depth: 2}]"),
    ),
    (
        grid("variants: {1: {}, 2: {model.inference: ladder}}", "exclude: [{variant: 1}]"),
        "1}]",
        "no variant is 1",
        grid("variants: {1: {}, 2: {model.inference: ladder}}", "exclude: [{variant: '1'}]"),
    ),
    (
        grid("axes: {model.batch_norm: [true, false]}", "exclude: [{model.batch_norm: 1}]"),
        "1}]",
        "no model.batch_norm is 1",
        grid("axes: {model.batch_norm: [true, false]}", "exclude: [{model.batch_norm: true}]"),
    ),
    (grid("depth: [1, 2]", "exclude: [{}]"), "{}]", "excludes nothing", grid("depth: [1, 2]", "exclude: []")),
    (
        grid("depth: [1]", "exclude: [{depth: 1}]"),
        "[{depth",
        "the grid is empty",
        grid("depth: [1, 2]", "exclude: [{depth: 1}]"),
    ),
    (
        grid("variants: {A: {model.layers: [{units: 1, mlp: []}], model.layers.0.units: 3}}"),
        "model.layers.0",
        "is set by model.layers as well",
        grid("variants: {A: {model.layers.1.units: 3, model.layers.0.units: 3}}"),
    ),
    (
        grid("variants: {A: {training.epochs: 3}}", "axes: {training.epochs: [1, 2]}"),
        "training.epochs: 3",
        "is set by the axis training.epochs as well",
        grid("variants: {A: {training.batch_size: 3}}", "axes: {training.epochs: [1, 2]}"),
    ),
    (
        grid("axes: {width: {a: {training.epochs: 3}, b: {}}, training.epochs: [1, 2]}"),
        "training.epochs: [1",
        "training.epochs is set by the axis width as well",
        grid("axes: {width: {a: {training.epochs: 3}, b: {}}, training.batch_size: [1, 2]}"),
    ),
    (
        grid("axes: {size: {a: {training.epochs: 3}, b: {}}, width: {c: {training.epochs: 4}, d: {}}}"),
        "training.epochs: 4",
        "training.epochs is set by the axis size as well",
        grid("axes: {size: {a: {training.epochs: 3}, b: {}}, width: {c: {training.batch_size: 4}, d: {}}}"),
    ),
    (
        grid("axes: {model.layers.0.units: [3, 5], width: {c: {model.layers: [{units: 1, mlp: []}]}, d: {}}}"),
        "model.layers: [{units",
        "model.layers is set by the axis model.layers.0.units as well",
        grid("axes: {training.epochs: [3, 5], width: {c: {model.layers: [{units: 1, mlp: []}]}, d: {}}}"),
    ),
    (
        grid("axes: {width: {a: {model.layers.0.units: 3, model.layers: [{units: 1, mlp: []}]}, b: {}}}"),
        "model.layers.0",
        "model.layers.0.units is set by model.layers as well",
        grid("axes: {width: {a: {model.layers: [{units: 1, mlp: []}]}, b: {}}}"),
    ),
    (
        grid("variants: {A: {model.nonlinearity.leaky_relu: 0.1}}", "axes: {model.nonlinearity.elu: [1, 2]}"),
        "model.nonlinearity.leaky_relu",
        "takes another nonlinearity than the axis model.nonlinearity.elu, and would replace it",
        grid("axes: {slope: {a: {model.nonlinearity.leaky_relu: 0.1}, b: {model.nonlinearity.elu: 2}}}"),
    ),
    (
        grid("variants: {A: {model.nonlinearity.leaky_relu: 0.1, model.nonlinearity.elu: 2.0}}"),
        "model.nonlinearity.elu",
        "takes another nonlinearity than model.nonlinearity.leaky_relu, and would replace it",
        grid("variants: {A: {model.nonlinearity.leaky_relu: 0.1}}"),
    ),
    (
        grid("axes: {width: {a: {model.layers.0.units: 8}, b: {}}}"),
        "b: {}",
        "levels 'a' and 'b' of width resolve to the same model with variant 'VAE' at depth 2",
        grid("axes: {width: {a: {model.layers.0.units: 9}, b: {}}}"),
    ),
    (
        grid("axes: {model.norm: [none, batch], training.schedule: [null, {step: {factor: 1, every: 1}}]}"),
        "{step",
        "levels null and {step: {every: 1, factor: 1}} of training.schedule resolve to the same model with variant "
        "'VAE' at depth 2, model.norm none",
        grid("axes: {model.norm: [none, batch], training.schedule: [null, {step: {factor: 0.5, every: 1}}]}"),
    ),
    (
        grid(
            "variants: {A: {training.clip_norm: 1}, B: {}}",
            "axes: {a: {x: {}, y: {training.clip_norm: 1}}}",
            "exclude: [{variant: A, a: y}]",
        ),
        "y: {training",
        "(variant 'A', a 'x') and (variant 'B', a 'y') resolve to the same model at depth 2",
        grid(
            "variants: {A: {training.clip_norm: 1}, B: {}}",
            "axes: {a: {x: {}, y: {training.clip_norm: 1}}}",
            "exclude: [{variant: A, a: y}, {variant: B, a: y}]",
        ),
    ),
    (
        grid("depth: [1, 3]", f"axes: {{size: {{a: {{}}, b: {{model.layers: {THREE}}}}}}}"),
        "3]\n",
        "depth 3 is more than the 2 layers of the model (size 'a' at depth 3)",
        grid("depth: [1, 2]", f"axes: {{size: {{a: {{}}, b: {{model.layers: {THREE}}}}}}}"),
    ),
    (
        grid("axes: {size: {a: {}, b: {objective.warm_up: 21}}}"),
        "21}",
        "warm-up of 21 epochs is longer than training (20 epochs): beta would never reach 1 (size 'b' at depth 2)",
        grid("axes: {size: {a: {}, b: {objective.warm_up: 20}}}"),
    ),
    (
        grid("axes: {size: {a: {training.epochs: 3}, b: {}}}", "exclude: [{size: c}]"),
        "c}]",
        "no size is the text 'c'",
        grid("axes: {size: {a: {training.epochs: 3}, b: {}, d: {}}}", "exclude: [{size: d}]"),
    ),
    (
        grid("axes: {depth: {a: {}}}"),
        "depth",
        "depth is what every member is called by already",
        grid("axes: {length: {a: {}}}"),
    ),
    (
        grid("axes: {model.layers: {a: {training.epochs: 3}}}"),
        "model.layers",
        "'model.layers' is no name for an axis with named levels",
        grid("axes: {layers: {a: {training.epochs: 3}}}"),
    ),
    (
        grid(f"axes: {{{'w' * 61}: {{a: {{training.epochs: 3}}}}}}"),
        "w" * 61,
        "is no name for an axis with named levels",
        grid(f"axes: {{{'w' * 60}: {{a: {{training.epochs: 3}}}}}}"),
    ),
    (
        grid('axes: {size: {a b: {training.epochs: 3}, "a  b": {}}}'),
        '"a  b"',
        "look alike",
        grid('axes: {size: {a b: {training.epochs: 3}, "a c": {}}}'),
    ),
    (
        grid("axes: {width: {a: {}, b: {training.epochs: 3}}}") + "report: {layout: {x: width, color: width}}\n",
        "width}}",
        "width is both report.layout.x and report.layout.color",
        grid("axes: {width: {a: {}, b: {training.epochs: 3}}}") + "report: {layout: {x: width, facet: depth}}\n",
    ),
    (
        grid(f"axes: {{training.epochs: {list(range(1, 102))}, training.batch_size: {list(range(1, 101))}}}"),
        "axes",
        "10,100 cells",
        grid(f"axes: {{training.epochs: {list(range(1, 12))}, training.batch_size: {list(range(1, 11))}}}"),
    ),
    (
        grid("depth: [1, 2]", f"axes: {{training.epochs: {list(range(1, 11))}}}", f"seeds: {list(range(5001))}"),
        "depth",
        "100,020 members",
        grid("depth: [1, 2]", f"seeds: {list(range(5001))}"),
    ),
]


@pytest.mark.parametrize(("bad", "fragment", "message", "good"), PAIRS, ids=[row[2] for row in PAIRS])
def test_contradictions(bad, fragment, message, good):
    (problem,) = problems(bad)
    assert problem.kind == "inconsistent"
    assert (problem.place.line, problem.place.column) == place_of(bad, fragment)
    assert message in problem.message
    assert problem.expected
    assert problems(good) == []


def test_with_two_layers_a_shared_path_takes_the_same_latents_with_either_skip():
    texts = [edited(("model:", f"{LADDER}\n  skip: {skip}")) for skip in ("generative", "both")]
    first, second = (members(loads(text)) for text in texts)
    assert [one.spec.digests for one in first] == [one.spec.digests for one in second]


def test_a_common_mistake_is_told_once_for_all_cells():
    text = edited(more="objective: {warm_up: 30}\ngrid: {depth: [1, 2], axes: {training.batch_size: [8, 9]}}\n")
    assert len(problems(text)) == 1


def test_excluded_cells_need_make_no_sense():
    excluded = "grid: {depth: [1, 2], variants: {A: {}, B: {objective.warm_up: 99}}, exclude: [{variant: B}]}\n"
    assert problems(SMALL + excluded) == []


# Settings that are another training than none, and ones of the same kind that are not.
IDLE = [
    ("{training.ema: 0}", "{training.ema: 0.5}"),
    ("{training.optimizer: {adamw: {weight_decay: 0}}}", "{training.optimizer: {adamw: {weight_decay: 0.1}}}"),
    ("{training.schedule: {cosine: {over: 1, to: 1}}}", "{training.schedule: {cosine: {over: 3, ramp: 2, to: 1}}}"),
    ("{training.schedule: {linear: {over: 9, to: 1}}}", "{training.schedule: {linear: {over: 9, to: 0.5}}}"),
    ("{training.schedule: {step: {factor: 0.5, every: 20}}}", "{training.schedule: {step: {factor: 0.5, every: 19}}}"),
    ("{training.lr_decay: {factor: 0.5, every: 200}}", "{training.lr_decay: {factor: 0.5, every: 2}}"),
    ("{training.lr_decay: {factor: 1, every: 2}}", "{training.schedule: {step: {factor: 1, every: 2, ramp: 2}}}"),
]


@pytest.mark.parametrize(("idle", "other"), IDLE)
def test_settings_without_effect_make_no_variant(idle, other):
    (problem,) = problems(grid(f"variants: {{A: {{}}, B: {idle}}}"))
    assert problem.message == "variants 'A' and 'B' resolve to the same model at depth 2"
    assert problems(grid(f"variants: {{A: {{}}, B: {other}}}")) == []


@pytest.mark.parametrize("idle", ["objective.free_bits: {nats: 1}", "objective.warm_up: 5"])
def test_nothing_floors_or_warms_up_a_kl_part_of_weight_0(idle):
    text = "variants: {{A: {{objective.beta: {0}}}, B: {{objective.beta: {0}, {1}}}}}"
    (problem,) = problems(grid(text.format(0, idle)))
    assert problem.message == "variants 'A' and 'B' resolve to the same model at depth 2"
    assert problems(grid(text.format(0.5, idle))) == []
    stopping = ", early_stopping: {patience: 2}}\nevaluation: {every: 2"
    stopped = grid(text.format(0, "objective.warm_up: 5")).replace("batch_size: 32", f"batch_size: 32{stopping}")
    assert problems(stopped.replace("dataset: digits", "dataset: digits, validation: 9")) == []
