"""Where data files come from: `HVAE_DATA_DIR`, else a per-user cache, else a checked download into that cache."""

import os
from dataclasses import dataclass
from pathlib import Path

from hvae_spec.data.download import Download
from hvae_spec.errors import DISK_FAULTS, DataError, MachineError, refusal


@dataclass(frozen=True)
class Source:
    """A file of a data set: its folder's name, its own name, the URLs that carry it, and its published digests."""

    dataset: str
    name: str
    urls: tuple[str, ...]
    digest: str
    """Of the download, `sha256:...` or `md5:...`."""
    content_digest: str = ""
    """Of what is in it, uncompressed: what shows whether an image differs from the published one, however the file was
    compressed. Empty: the file is not compressed."""


def user_cache() -> Path | None:
    """The folder of what is kept for a user; None where a user has no home (a container's, say)."""
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_dir("hvae_spec"))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def search_folders() -> list[Path]:
    """Folders that are searched for data, first one first: `HVAE_DATA_DIR` if it is set, and the per-user cache if
    there is one. The last one is where downloads go.
    """
    named, cache = os.environ.get("HVAE_DATA_DIR"), user_cache()
    folders = [Path(os.path.expanduser(named))] if named else []
    return folders if cache is None else [*folders, cache / "data"]


def find(source: Source) -> Path | None:
    """The path of a data file, with or without its `.gz`; None if it is nowhere. What is there but is no file is found,
    too, so that whoever reads it says so.
    """
    for folder in search_folders():
        path = folder / source.dataset / source.name
        for candidate in (path, path.with_suffix("") if path.suffix == ".gz" else path):
            if candidate.exists():
                return candidate
    return None


def locate(source: Source) -> Path:
    """The path of a data file, which is downloaded first if it is nowhere.

    A file that is there is taken as it is, with or without its `.gz`; a download must match its digest.

    Raises:
        DataError: it is nowhere, and no URL yields it or there is no folder to put it into.
        MachineError: the folder that it is downloaded into cannot be written.

    """
    found, folders = find(source), search_folders()
    if found is None and not folders:
        raise DataError(
            f"{source.dataset}: {source.name} is missing, and this user has no home folder to keep it in; "
            f"set HVAE_DATA_DIR to the folder that holds {source.dataset}/{source.name}, or into which it is downloaded"
        )
    return found or download(source, folders[-1] / source.dataset)


def download(source: Source, folder: Path) -> Path:
    """Download a file into a folder, trying its URLs in turn; checked, atomic, with a progress bar.

    Where a connection breaks off, the next URL, or the next call, goes on with what has come (see `Download`).

    Raises:
        DataError: no URL yields it.
        MachineError: the folder cannot be written.

    """
    import requests

    failures = []
    for url in source.urls:
        try:
            return _retrieve(url, source, folder)
        except ValueError:
            failures.append(f"  {url}: its content does not match the expected digest ({source.digest[:20]}...)")
        except (OSError, requests.RequestException) as error:
            if error.errno in DISK_FAULTS:
                raise MachineError(
                    f"{source.dataset}: {source.name} cannot be downloaded ({refusal(folder, error)}); the environment "
                    "variable XDG_CACHE_HOME names another folder"
                ) from None
            failures.append(f"  {url}: {_reason(error)}")
    places = "\n".join(f"  {parent / source.dataset / source.name}" for parent in search_folders())
    raise DataError(
        f"{source.dataset}: {source.name} is missing and could not be downloaded.\n"
        f"It was expected at one of\n{places}\nand tried from\n" + "\n".join(failures) + "\n"
        "Put the file there by hand, or set HVAE_DATA_DIR to the folder that holds "
        f"{source.dataset}/{source.name}."
    )


def _retrieve(url: str, source: Source, folder: Path) -> Path:
    """The path of the file from this address.

    Raises:
        ValueError: what is there has another digest.

    """
    import pooch

    pooch.get_logger().setLevel("ERROR")
    downloader = Download(source.name, folder / f".{source.name}.part")
    try:
        path = pooch.retrieve(url, source.digest, source.name, folder, downloader=downloader)
    except ValueError:
        if not downloader.has_resumed:
            raise
        # The part that was there may have been another file's; it is gone now.
        path = pooch.retrieve(url, source.digest, source.name, folder, downloader=downloader)
    return Path(path)


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off; the same command goes on where it did"
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return " ".join(str(error).split())[:200]
