"""The notebooks of `analysis/` are stored with their outputs: `python -m tests.notebooks` runs both and stores them.

`paper.ipynb` is run on the results of the quickstart, in `results/quickstart`, which are completed first. With
`--check RESULTS` both are run, `paper.ipynb` on these results, and nothing is stored: the exit code is 1 if one of them
fails, or has other kinds of outputs than are stored. Numbers are not compared, as they differ among machines.
"""

import argparse
import ast
import asyncio
import base64
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = (ROOT / "analysis" / "paper.ipynb", ROOT / "analysis" / "own_images.ipynb")
SECONDS = 300
"""For one cell."""
OUTPUTS_OF = "outputs_of"
"""The entry of a notebook's metadata that says which source its outputs are of."""
UNWANTED = {
    "an absolute path": re.compile(r"(?<![\w<:/.])(?:/[\w.+-]+){2,}|\b[A-Z]:\\\w"),
    "a date or a time": re.compile(r"\b\d{4}-\d\d-\d\d\b|\b\d+:\d\d:\d\d\b"),
    "an address in memory": re.compile(r"\b0x[0-9a-f]{6,}"),
    "a control character": re.compile(r"[\r\x1b]"),
}
"""What differs from one run or machine to the next, or is of a terminal."""


def read(path: Path) -> NotebookNode:
    """A notebook as it is stored, once it is sure that it is valid."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def source_digest(notebook: NotebookNode) -> str:
    """The SHA-256 of the source of all code cells."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()


async def execute(notebook: NotebookNode, folder: Path, results: Path) -> None:
    """Run all cells, and put their outputs into the notebook.

    Args:
        notebook: what is run.
        folder: the working folder.
        results: what the notebook takes for results, if it asks for some.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises an error.

    """
    packages = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    await client.async_execute(env={**os.environ, "PYTHONPATH": packages, "HVAE_RESULTS": str(results)})
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata[OUTPUTS_OF] = source_digest(notebook)
    for data in (output.data for cell in code_cells(notebook) for output in cell.outputs if "data" in output):
        if "image/png" in data:
            data["image/png"] = _with_palette(data["image/png"])


def _with_palette(png: str) -> str:
    """A picture with 256 colors, a third as large and to the eye the same, in base64."""
    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def kinds(notebook: NotebookNode) -> list[list[str]]:
    """What every code cell has put out: `error`, the name of a stream, or types of a display."""
    return [[_kind(output) for output in cell.outputs] for cell in code_cells(notebook)]


def _kind(output: NotebookNode) -> str:
    if output.output_type in ("stream", "error"):
        return str(output.get("name", "error"))
    return ", ".join(sorted(output.data))


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """The cells that have put out something of another kind than is stored."""
    pairs = zip(kinds(stored), kinds(fresh), strict=True)
    return [
        f"code cell {number}: {then} is stored, and now it is {now}"
        for number, (then, now) in enumerate(pairs, start=1)
        if then != now
    ]


def faults(notebook: NotebookNode) -> list[str]:
    """What is wrong with the outputs: of another source, missing, out of order, errors, or of one machine or run."""
    found = []
    if notebook.metadata.get(OUTPUTS_OF) != source_digest(notebook):
        found.append("the outputs are of another source: python -m tests.notebooks")
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != number:
            found.append(f"code cell {number} was run as number {cell.execution_count}")
        if _shows(cell.source) and not cell.outputs:
            found.append(f"code cell {number} has no output")
        for output in cell.outputs:
            if (kind := _kind(output)) in ("error", "stderr"):
                found.append(f"code cell {number} has put out: {kind}")
            for text in _texts(output):
                found += [
                    f"code cell {number} shows {what}: {match[0]!r}"
                    for what, pattern in UNWANTED.items()
                    if (match := pattern.search(text))
                ]
    return found


def _shows(source: str) -> bool:
    """Whether a cell ends with a value that is shown, as it does not where a semicolon or `%%capture` hides it."""
    if source.startswith("%%capture") or source.endswith(";"):
        return False
    lines = [line for line in source.split("\n") if not line.startswith("%")]
    statements = ast.parse("\n".join(lines)).body
    return bool(statements) and isinstance(statements[-1], ast.Expr)


def _texts(output: NotebookNode) -> Iterator[str]:
    yield output.get("text", "")
    yield from (text for kind, text in output.get("data", {}).items() if not kind.startswith("image/"))


async def _run_all(results: Path) -> list[NotebookNode]:
    """All notebooks, run side by side in folders that are removed."""
    with TemporaryDirectory() as scratch:
        notebooks = [read(path) for path in NOTEBOOKS]
        folders = [Path(scratch, path.stem) for path in NOTEBOOKS]
        for folder in folders:
            folder.mkdir()
        await asyncio.gather(
            *(execute(notebook, folder, results) for notebook, folder in zip(notebooks, folders, strict=True))
        )
        return notebooks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks, and store or compare what comes out. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description=__doc__)
    parser.add_argument("--check", type=Path, metavar="RESULTS", help="store nothing; RESULTS are of the quickstart")
    options = parser.parse_args(arguments)
    results = ROOT / "results" / "quickstart" if options.check is None else options.check.resolve()
    if options.check is None:
        import tune.run

        tune.run.grid(ROOT / "specs" / "quickstart.yaml", results)
    notebooks = asyncio.run(_run_all(results))
    code = 0
    for path, notebook in zip(NOTEBOOKS, notebooks, strict=True):
        found = faults(notebook) + ([] if options.check is None else differences(read(path), notebook))
        if found:
            sys.stderr.write("".join(f"{path.name}: {fault}\n" for fault in found))
            code = 1
        elif options.check is None:
            nbformat.write(notebook, path)
    return code


if __name__ == "__main__":
    sys.exit(main())
