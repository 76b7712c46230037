"""`python -m hvae_spec.json_schema` prints the JSON Schema of a spec file, for editors."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from hvae_spec import extensions
from hvae_spec.command import CommandParser, path_argument, run_command
from hvae_spec.output import code_of_output
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grids import GridsFile


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec file: of a grid, `base` included (a spec that builds on another may leave anything to
    it), or of a file that names grids.
    """
    schema = Experiment.model_json_schema()
    _close(schema)
    base = {"type": "string", "description": "Another spec, relative to this file, that this one builds on."}
    # A section may be split between a file and its base, so only a file without one must have every key.
    sections = {key: schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] for key, node in _sections(schema).items()}
    grids = GridsFile.model_json_schema()
    whole = {key: {"required": section.pop("required")} for key, section in sections.items() if "required" in section}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Deep hierarchical VAE experiment",
        "properties": {"base": base, "grids": grids["properties"]["grids"], **schema["properties"]},
        "required": [],
        "anyOf": [
            {"required": ["base"], "properties": {"grids": False}},
            {"required": schema["required"], "properties": {**whole, "grids": False}},
            {"required": grids["required"], "maxProperties": len(grids["required"])},
        ],
    }


def _close(node: Any) -> None:
    """Refuse, in every mapping whose keys have a pattern, keys of another form, which pydantic's schema lets pass."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        for child in node.values():
            _close(child)
    elif isinstance(node, list):
        for child in node:
            _close(child)


def _sections(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: node for key, node in schema["properties"].items() if "$ref" in node}


def main(arguments: Sequence[str] | None = None, prog: str = "python -m hvae_spec.json_schema") -> int:
    """The command. Returns its exit code."""

    def show() -> int:
        parser = CommandParser(prog=prog, description="Print the JSON Schema of a spec file.")
        parser.add_argument(
            "--extensions",
            type=path_argument,
            nargs="+",
            default=[],
            metavar="FILE",
            help="with the parts of these extensions (they run)",
        )
        extensions.run([extensions.readable(path) for path in parser.parse_args(arguments).extensions])
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
        return code_of_output()

    return run_command(show)


if __name__ == "__main__":
    sys.exit(main())
