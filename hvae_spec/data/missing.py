"""Data sets whose files are not on this machine."""

from hvae_spec.data.cache import Source, find, search_folders
from hvae_spec.data.registry import SOURCES


def missing(name: str) -> str:
    """What of a published data set is missing on this machine, where it was looked for, and how it is had; empty if
    nothing is, or if nothing is known of its files.

    Args:
        name: the data set's.

    """
    gone = missing_files(name)
    if not gone:
        return ""
    others = f" and {len(gone) - 1} more file{'s' * (len(gone) > 2)}" if len(gone) > 1 else ""
    places = " and ".join(str(folder / gone[0].dataset) for folder in search_folders()) or "no folder at all"
    return (
        f"{name}: {gone[0].name}{others} {'are' if others else 'is'} missing (looked for in {places}); "
        f"`python -m hvae_spec.data fetch {name}` downloads what is missing from "
        f"{gone[0].urls[0].rpartition('/')[0]}/, or put it there by hand"
    )


def missing_files(name: str) -> list[Source]:
    """The files of a data set that are not on this machine; none where nothing is known of its files.

    Args:
        name: the data set's.

    """
    return [source for source in SOURCES.get(name, ()) if find(source) is None]
