"""The Python examples of README.md and docs/ are tests: each page from top to bottom, in the folder of the checkout.

Examples with `>>>` are compared with what they print. An example of a finished grid says so in a comment above it,
`<!-- skip: next if(not has_quickstart) -->`, and runs where `results/quickstart` is.
"""

from pathlib import Path

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent


def setup(namespace: dict[str, object]) -> None:
    """What every page's examples start with."""
    namespace["has_quickstart"] = (ROOT / "results" / "quickstart" / "grid.json").exists()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    path=str(ROOT),
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    excludes=["docs/_build/**"],
    setup=setup,
).pytest()
