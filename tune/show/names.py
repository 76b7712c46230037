"""What packs and members are called while they run, in so many columns."""

from hvae_spec.pack_job import PackJob
from hvae_spec.spec.labels import LABELS, level_label

LABEL_WIDTH = 60
"""Columns that a pack's name has in a line, so that the time before it and a word behind it fit into 80."""


def member_names(job: PackJob) -> list[str]:
    """What is said of the members of a pack: what differs among them, and their seeds."""
    labels = [member.labels for member in job.members]
    differing = [key for key in labels[0] if key != "seed" and any(one.get(key) != labels[0][key] for one in labels)]
    among = [key for key in labels[0] if key not in LABELS]
    names = []
    for one in labels:
        axes = [level_label(key, one.get(key), among) for key in differing if key not in LABELS]
        axes = [f"L{one['depth']}"] * ("depth" in differing) + axes
        variant = [str(one["variant"])] if "variant" in differing or not differing else []
        names.append(" ".join([*variant, *axes, f"seed {one['seed']}"]))
    return names


def label(job: PackJob, width: int = LABEL_WIDTH) -> str:
    """A pack's name in so many columns: where it is too long, the number of its variants for their names, and then its
    middle left out.
    """
    name = job.name
    variants = list(dict.fromkeys(str(member.labels["variant"]) for member in job.members))
    if len(name) > width and len(variants) > 1:
        name = name.replace(", ".join(variants), f"{len(variants)} variants", 1)
    return cut(name, width)


def cut(text: str, width: int) -> str:
    """A text of at most so many characters, its middle left out if it is longer."""
    end = max(1, (width - 3) // 2)
    return text if len(text) <= width else f"{text[: max(1, width - 3 - end)]}...{text[-end:]}"
