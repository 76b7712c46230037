"""In which order a report shows tables and figures: by subject, so that what belongs together stands together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """Tables and figures of one subject, by the names of their files."""

    key: str
    """Its identifier on the page."""
    heading: str
    tables: tuple[str, ...]
    """Names of table sets, in their order on the page."""
    figures: tuple[str, ...]
    """Names of figures, in their order on the page."""


MAIN = Subject("main", "Result", ("test_error", "test_log_likelihood"), ("log_likelihood",))
"""What a report opens with; test errors are of models with classes alone."""
SEARCH = Subject("main", "Result", ("search",), ("search",))
"""The same of a search."""
SUBJECTS = (
    Subject("effects", "Effects", ("paired_effects", "ranking", "detectable_effects", "seeds"), ("paired_effects",)),
    Subject(
        "paper",
        "Beside the paper",
        ("verdicts", "table_1", "table_2", "table_3", "figure_3", "iwae"),
        (),
    ),
    Subject(
        "likelihood",
        "Log-likelihood and bounds",
        ("bits_per_dim", "bound_by_samples", "ais", "refine"),
        ("learning_curves", "bound_by_samples"),
    ),
    Subject(
        "units",
        "Latent units",
        ("active_units", "kl", "kl_standard_normal", "probe", "collapse"),
        ("active_units", "unit_kl", "kl_standard_normal", "latents"),
    ),
    Subject("images", "Images", (), ("reconstructions", "prior_samples", "injected")),
)
"""Every subject. A table or a figure that none of them names stands in a section of its own after them."""
FURTHER = Subject("further", "Further results", (), ())
"""Where that is."""
