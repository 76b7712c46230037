"""Imports within the package go one way, wherever in a file they stand, and what users import is what is announced."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "analysis"
ORDER = (
    ("reader", "folders", "columns", "bits", "frames", "caveats"),
    ("statistics",),
    ("layout",),
    ("comparison",),
    ("tables",),
    ("paper",),
    ("figures",),
    ("html",),
    ("report",),
)
"""The parts of the package, ground first, as the docstring of `analysis` lists them."""
LEVELS = {part: level for level, parts in enumerate(ORDER) for part in parts}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path):
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imported_parts(path):
    """The parts of the package that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("analysis."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_nothing_that_stands_above_it(path):
    own = LEVELS[part_of(path)]
    for part in imported_parts(path):
        assert LEVELS[part] <= own, f"{path.relative_to(ROOT)} imports analysis.{part}"


def test_figures_know_no_tables():
    assert "tables" not in {part for path in (ROOT / "figures").glob("*.py") for part in imported_parts(path)}


def test_the_docstring_lists_the_parts_in_their_order():
    text = ast.get_docstring(ast.parse((ROOT / "__init__.py").read_text()))
    lines = [line for line in text.splitlines() if line.startswith("- `")]
    assert [tuple(re.findall(r"`(\w+)`", line.partition(":")[0])) for line in lines] == list(ORDER)


@pytest.mark.parametrize("name", ["statistics", "tables", "figures"])
def test_a_package_exports_what_it_announces(name):
    package = importlib.import_module(f"analysis.{name}")
    assert len(set(package.__all__)) == len(package.__all__)
    for exported in package.__all__:
        value = getattr(package, exported)
        assert value.__doc__ or not callable(value), f"{exported} has no docstring"


def test_subpackages_are_imported_when_they_are_first_used():
    code = (
        "import sys, analysis; heavy = {'pandas', 'scipy', 'seaborn', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)), analysis.statistics.holm.__name__, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "holm", "False"]


def test_an_unknown_name_is_an_attribute_error():
    import analysis

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        analysis.nothing  # noqa: B018
