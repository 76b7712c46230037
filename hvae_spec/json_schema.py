"""`python -m hvae_spec.json_schema` prints the JSON Schema of a spec file, for editors."""

import json
from typing import Any

from hvae_spec.schema.experiment import Experiment


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec file, `base` included (a spec that builds on another may leave any section to it)."""
    schema = Experiment.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Deep hierarchical VAE experiment"
    base = {"type": "string", "description": "Another spec, relative to this file, that this one builds on."}
    schema["properties"] = {"base": base, **schema["properties"]}
    required = schema.pop("required")
    schema["anyOf"] = [{"required": ["base"]}, {"required": required}]
    return schema


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
