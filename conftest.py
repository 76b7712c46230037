"""The examples of README.md and docs/ are tests: each page from top to bottom, in the folder of the checkout.

Python examples with `>>>` are compared with what they print. YAML examples are specs, and must be valid beside the
shipped ones. Examples of a finished grid stand between `<!-- skip: start if(not has_quickstart) -->` and
`<!-- skip: end -->`, and run where `results/quickstart` is. `scratch` is an empty folder.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

from hvae_spec.reading import read

ROOT = Path(__file__).parent

# Sphinx's own, whose packages are those of the extra `docs`; and extensions, which specs run.
collect_ignore_glob = ["docs/*.py", "docs/extensions/*.py", "docs/examples/*.py"]
if not importlib.util.find_spec("jax"):  # of the extra `jax`
    collect_ignore_glob.append("tune/bench/rival_jax.py")


def read_spec(example: Example) -> None:
    """Read a YAML example as a file among the shipped specs, beside images of one's own."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (ROOT / "specs").glob("*.yaml"):
            shutil.copy(path, folder)
        np.savez(Path(folder, "galaxies.npz"), train=np.zeros((600, 4, 4), dtype=np.uint8))
        Path(folder, "example.yaml").write_text(example.parsed)
        read(Path(folder, "example.yaml"))


def setup(namespace: dict[str, object]) -> None:
    """What every page's examples start with."""
    namespace["has_quickstart"] = (ROOT / "results" / "quickstart" / "grid.json").exists()
    namespace["scratch"] = tempfile.mkdtemp()


def teardown(namespace: dict[str, object]) -> None:
    """Remove what a page's examples have written."""
    shutil.rmtree(str(namespace["scratch"]))


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser(language="yaml", evaluator=read_spec), SkipParser()],
    path=str(ROOT),
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    excludes=["docs/_build/*"],
    setup=setup,
    teardown=teardown,
).pytest()
