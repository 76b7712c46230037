"""How Sphinx builds these pages: `.venv/bin/sphinx-build -W docs docs/_build`. Nothing is fetched from the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

import hvae_spec  # noqa: E402

project = "hvae-spec"
author = "The hvae-spec authors"
project_copyright = f"2026, {author}"
release = version = hvae_spec.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "as_written", "combinations_table", "faults_table", "spec_reference"]
exclude_patterns = ["_build", "extensions"]
html_theme = "furo"
html_title = f"hvae-spec {release}"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# Docstrings put code in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config"}
# Signatures come from `as_written`. The types of a spec's fields are those of the reference of the spec.
autodoc_typehints = "none"
add_module_names = False
