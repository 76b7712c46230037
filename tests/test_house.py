"""Who may import whom (imports descend), and what is loaded when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hvae_spec", "tune", "analysis")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Folder or file -> what it must not import, anywhere in the file.
FORBIDDEN = {
    "hvae_spec/spec": {"torch", "numpy", "ray", "pandas", "tune", "analysis", "hvae_spec.nn", "hvae_spec.data"},
    "hvae_spec/nn": {"pydantic", "yaml", "ray", "pandas", "tune", "analysis", "hvae_spec.spec"},
    "hvae_spec/records": {"torch", "ray", "pandas", "tune", "analysis", "hvae_spec.nn"},
    "hvae_spec/train": {"yaml", "ray", "pandas", "hvae_spec.spec.load", "hvae_spec.spec.yaml"},
    "hvae_spec/evaluate": {"yaml", "ray", "pandas", "hvae_spec.spec"},
    "hvae_spec": {"ray", "pandas", "seaborn", "matplotlib", "tune", "analysis"},
    "tune": {"pandas", "seaborn", "matplotlib"},
    "analysis": {"torch", "ray", "tune", "hvae_spec.nn", "hvae_spec.train", "hvae_spec.model", "hvae_spec.compiler"},
}


def imports(path):
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_descend(path):
    relative = path.relative_to(ROOT).as_posix()
    for where, forbidden in FORBIDDEN.items():
        if relative == where or relative.startswith(where + "/"):
            for name in imports(path):
                assert not any(name == bad or name.startswith(bad + ".") for bad in forbidden), f"{relative}: {name}"


FILE_ACCESS = {"open", "exists", "stat", "lstat", "is_file", "is_dir", "read_text", "read_bytes", "scandir", "listdir"}


def test_only_the_reader_of_a_spec_opens_files():
    """A spec that has been read never looks at the disk: it can be costed, compared and hashed anywhere."""
    for path in (ROOT / "hvae_spec" / "spec").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
        allowed = {"yaml.py": FILE_ACCESS, "load.py": {"is_file", "read_text"}}.get(path.name, set())
        assert not names & (FILE_ACCESS - allowed), path


def test_only_the_runner_knows_ray():
    knowing = {
        path.relative_to(ROOT).as_posix() for path in MODULES for name in imports(path) if name.split(".")[0] == "ray"
    }
    assert knowing == {"tune/execute/cluster.py"}


def test_only_the_compiler_and_its_users_know_both_pydantic_models_and_torch():
    both = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if "torch" in set(imports(path)) and any(name.startswith("hvae_spec.spec") for name in imports(path))
    }
    users = {"train/trainer", "train/optimizer", "pack", "model"}
    measuring = {"measure/timing", "bench/floor", "bench/comparison"}
    assert both == {
        "hvae_spec/compiler.py",
        *(f"hvae_spec/{name}.py" for name in users),
        *(f"tune/{name}.py" for name in measuring),
    }


def test_importing_hvae_spec_is_light():
    code = "import sys, hvae_spec; print(sorted({'torch', 'ray', 'numpy', 'pydantic', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_asserts_on_input_or_loads_pickles():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path
        assert not {"pickle", "torch.load"} & set(imports(path)), path
        assert "torch.load(" not in path.read_text()
        assert not {"yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.unsafe_load"} & {
            ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
        }
