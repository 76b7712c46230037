"""Faults injected into real runs, and what became of them. Each module is a command, `python -m tests.faults.NAME`,
which writes what it found to `docs/faults/NAME.json` when it is asked to with `--write`; `docs/faults.md` shows these.
"""
