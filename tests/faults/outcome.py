"""What a campaign of injected faults came to, as the table in `docs/faults.md` has it."""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "faults"


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    injected: str
    """What was done, in words: `SIGKILL at a random moment of a serial run`."""
    trials: int
    """How many times."""
    survived: int
    """How many of these ended as they must."""
    lost: int
    """How many did not: other numbers, something missing, a traceback, a wrong exit code."""
    meaning: str
    """What counts as survived: `the same command then ends bit for bit as undisturbed`."""
    command: str
    """How to repeat it, from the root of the checkout."""
    day: str = ""
    """When it was measured."""

    def __post_init__(self) -> None:
        if self.survived + self.lost != self.trials:
            raise ValueError(f"{self.trials} trials, of which {self.survived} survived and {self.lost} were lost")


def write(name: str, outcomes: list[Outcome], folder: Path = FOLDER) -> Path:
    """Write a campaign's rows, dated today, to `docs/faults/NAME.json`. Returns its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    rows = [{**asdict(outcome), "day": date.today().isoformat()} for outcome in outcomes]
    path.write_text(json.dumps(rows, indent=2) + "\n")
    return path


def read(folder: Path = FOLDER) -> list[Outcome]:
    """All rows that were written, by campaign."""
    return [Outcome(**row) for path in sorted(folder.glob("*.json")) for row in json.loads(path.read_text())]
