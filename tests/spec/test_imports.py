"""Reading a spec costs nothing that it does not need."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "numpy", "pandas", "sklearn", "matplotlib", "requests")


@pytest.mark.parametrize(
    "statement",
    [
        "import hvae_spec",
        "from hvae_spec.reading import read; read('specs/mnist_grid.yaml').members[0].digests",
        "import hvae_spec.json_schema",
    ],
)
def test_reading_imports_nothing_heavy(statement):
    code = f"import sys\n{statement}\nprint([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
