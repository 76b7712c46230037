"""Well-formed specs that make no sense: what the types cannot tell, found before anything runs."""

from collections.abc import Iterator
from dataclasses import dataclass

from hvae_spec.schema.experiment import Experiment, Member
from hvae_spec.schema.grid import Cell, Path


@dataclass(frozen=True)
class Nonsense:
    """A contradiction in a spec: where it stands, what is wrong, and what would mend it."""

    path: Path
    message: str
    remedy: str


def member_problems(member: Member) -> Iterator[Nonsense]:
    """Contradictions within one resolved spec."""
    model, objective, training = member.model, member.objective, member.training
    if objective.warm_up > training.epochs:
        yield Nonsense(
            ("objective", "warm_up"),
            f"warm-up of {objective.warm_up} epochs is longer than training ({training.epochs} epochs): "
            "beta would never reach 1",
            f"a warm_up of at most {training.epochs}, or training.epochs of at least {objective.warm_up}",
        )
    if model.batch_norm and training.batch_size == 1:
        yield Nonsense(
            ("training", "batch_size"),
            "batch normalisation needs more than one image in a batch",
            "a batch_size of 2 or more, or model.batch_norm: false",
        )
    pixels, train, _ = member.data.counts
    if training.last_batch == "drop" and training.batch_size > train:
        yield Nonsense(
            ("training", "batch_size"),
            f"a batch of {training.batch_size} images is larger than the training set ({train} images)",
            f"a batch_size of at most {train}",
        )
    if model.batch_norm and training.last_batch == "keep" and train % training.batch_size == 1:
        yield Nonsense(
            ("training", "last_batch"),
            f"the last batch of an epoch would hold a single image ({train} = 1 modulo {training.batch_size}), "
            "which batch normalisation cannot take",
            "last_batch: drop, or another batch_size",
        )
    if model.share_top_down and model.inference == "vae":
        yield Nonsense(
            ("model", "share_top_down"),
            "bottom-up (vae) inference has no top-down path to share with the generative model",
            "inference: ladder, or share_top_down: false",
        )
    if model.layers[0].mlp_top_down is not None:
        yield Nonsense(
            ("model", "layers", 0, "mlp_top_down"),
            "there is no top-down inference mapping out of z_1",
            "mlp_top_down on layers above the first only; mlp_down sets the widths of p(x|z_1)",
        )
    for index, layer in enumerate(model.layers[1:], start=1):
        if model.inference == "ladder" and model.share_top_down and layer.top_down != layer.down:
            yield Nonsense(
                ("model", "layers", index, "mlp_top_down"),
                f"a shared top-down path has the generative mapping's widths {list(layer.down)}, "
                f"not {list(layer.top_down)}",
                f"mlp_top_down: {list(layer.down)}, or leave it out, or share_top_down: false",
            )


def grid_problems(experiment: Experiment) -> Iterator[Nonsense]:
    """Contradictions between the grid and the model that can be seen before cells are resolved."""
    grid, layers = experiment.grid, experiment.model.depth
    for place, depth in enumerate(grid.depth or ()):
        if depth > layers:
            yield Nonsense(
                ("grid", "depth", place),
                f"depth {depth} is more than the {layers} layers of the model",
                f"a depth from 1 to {layers}, or more entries in model.layers",
            )
        if depth in (grid.depth or ())[:place]:
            yield Nonsense(("grid", "depth", place), f"depth {depth} is listed twice", "each depth once")
    for place, seed in enumerate(grid.seeds):
        if seed in grid.seeds[:place]:
            yield Nonsense(("grid", "seeds", place), f"seed {seed} is listed twice", "each seed once")
    for axis, values in grid.axes.items():
        for place, value in enumerate(values):
            if value in values[:place]:
                yield Nonsense(("grid", "axes", axis, place), f"{value!r} is listed twice", "each value once")


def same_model(cells: list[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Pairs of cells that resolve to one and the same spec under two names."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        digest = cell.member.digest
        if digest in seen:
            yield seen[digest], cell
        else:
            seen[digest] = cell
