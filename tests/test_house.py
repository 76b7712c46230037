"""Who may import whom (imports descend), and what is loaded when."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
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
    "hvae_spec/listeners": {"torch", "ray", "pandas", "tune", "analysis", "hvae_spec.nn", "hvae_spec.pack"},
    "hvae_spec/training": {"yaml", "ray", "pandas", "hvae_spec.spec.load", "hvae_spec.spec.yaml"},
    "hvae_spec/evaluate": {"yaml", "ray", "pandas", "hvae_spec.training"},
    **{
        f"hvae_spec/evaluate/{name}.py": {"hvae_spec.spec", "hvae_spec.records.result"}
        for name in ("evaluation", "gallery", "log_weights")
    },
    "hvae_spec": {"ray", "pandas", "seaborn", "matplotlib", "tune", "analysis"},
    "tune": {"pandas", "seaborn", "matplotlib"},
    "analysis": {"torch", "ray", "tune", "hvae_spec.nn", "hvae_spec.training", "hvae_spec.model", "hvae_spec.compiler"},
}


@cache
def nodes(path):
    """All that a file's text says, as a tree, node by node."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imports(path):
    """Every module that a file imports, wherever in the file."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def module_graph(root, packages):
    """What each module imports, of the modules of these packages, by paths; also lazily, but not for types alone."""
    paths = [path.relative_to(root) for package in packages for path in (root / package).rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph = {}
    for path in paths:
        tree = ast.parse((root / path).read_text())
        typing = [
            node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ]
        skipped = {id(inner) for node in typing for statement in node.body for inner in ast.walk(statement)}
        found = set()
        for node in ast.walk(tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inner if inner <= names.keys() else inner | {node.module}
        graph[path] = {names[name] for name in found & names.keys()} - {path}
    return graph


@pytest.fixture(scope="module")
def graph():
    """What our modules import, of ours."""
    return module_graph(ROOT, PACKAGES)


def folder_graph(graph):
    """The same between folders of a package; a file that is in none stands for itself."""
    folders = {path: Path(*path.parts[:2]) for path in graph}
    found = {folder: set() for folder in folders.values()}
    for path, others in graph.items():
        found[folders[path]] |= {folders[other] for other in others} - {folders[path]}
    return found


@pytest.mark.parametrize("view", [lambda graph: graph, folder_graph], ids=["modules", "folders"])
def test_imports_run_in_no_circle_not_even_lazily(view, graph):
    TopologicalSorter(view(graph)).prepare()  # raises CycleError, which names the circle


def test_a_lazy_circle_between_modules_and_one_between_folders_are_found(tmp_path):
    files = {"a": "from p.one import b", "b": "def later():\n    import p.one.a", "c": "from p.two.d import x"}
    for name, text in files.items():
        (tmp_path / "p" / "one").mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / "one" / f"{name}.py").write_text(text)
    with pytest.raises(CycleError, match=r"a\.py"):
        TopologicalSorter(module_graph(tmp_path, ["p"])).prepare()
    (tmp_path / "p" / "one" / "b.py").write_text("if TYPE_CHECKING:\n    import p.one.a")
    (tmp_path / "p" / "two").mkdir()
    (tmp_path / "p" / "two" / "d.py").write_text("x = 1")
    (tmp_path / "p" / "two" / "e.py").write_text("import p.one.a")
    graph = module_graph(tmp_path, ["p"])
    TopologicalSorter(graph).prepare()
    with pytest.raises(CycleError, match="two"):
        TopologicalSorter(folder_graph(graph)).prepare()


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
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
        allowed = {"yaml.py": FILE_ACCESS, "load.py": {"stat", "read_text"}}.get(path.name, set())
        assert not names & (FILE_ACCESS - allowed), path


def test_only_the_runner_knows_ray():
    knowing = {
        path.relative_to(ROOT).as_posix() for path in MODULES for name in imports(path) if name.split(".")[0] == "ray"
    }
    assert knowing == {"tune/execute/cluster.py", "tune/execute/trials.py"}


def test_only_the_compiler_and_its_users_know_both_pydantic_models_and_torch():
    both = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if "torch" in imports(path) and any(name.startswith("hvae_spec.spec") for name in imports(path))
    }
    users = {
        "training/trainer",
        "training/optimizer",
        "evaluate/curve",
        "evaluate/member",
        "pack",
        "model",
        "single",
        "check",
    }
    measuring = {"measure/timing", "bench/floor", "bench/comparison", "bench/rival_torch"}
    assert both == {
        "hvae_spec/compiler.py",
        *(f"hvae_spec/{name}.py" for name in users),
        *(f"tune/{name}.py" for name in measuring),
    }


def test_every_command_takes_an_option_by_its_whole_name_alone():
    """An abbreviation of one option may be the name of another one, of another command."""
    for path in MODULES:
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not {"argparse.ArgumentParser", "ArgumentParser"} & set(calls), f"{path}: expected CommandParser"


def test_importing_hvae_spec_is_light():
    code = "import sys, hvae_spec; print(sorted({'torch', 'ray', 'numpy', 'pydantic', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_imports_neither_what_compiles_nor_scikit_learn(tmp_path):
    text = (
        "{name: a, data: {dataset: digits, train_images: 64, test_images: 8}, model: {layers: [{units: 2, mlp: [4]}]}, "
    )
    text += "training: {epochs: 2, batch_size: 32}, evaluation: {iw_samples: 1, every: 1}}"
    code = (
        f"import sys, hvae_spec; hvae_spec.train({text!r}, results={str(tmp_path)!r}, progress=False);"
        "heavy = {'torch._dynamo', 'torch._inductor', 'sympy', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'ray'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_asserts_on_input_or_loads_pickles():
    for path in MODULES:
        assert not any(isinstance(node, ast.Assert) for node in nodes(path)), path
        assert not {"pickle", "torch.load"} & imports(path), path
        assert "torch.load(" not in path.read_text()
        assert not {"yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.unsafe_load"} & {
            f"{node.value.id}.{node.attr}"
            for node in nodes(path)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
