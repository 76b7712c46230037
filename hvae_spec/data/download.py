"""A download over HTTP that goes on where an earlier one broke off."""

import fcntl
import os
from pathlib import Path
from typing import Any

TIMEOUT = 20.0
"""Seconds without a byte after which an address counts as dead."""
CHUNK = 2**16
"""Bytes that are read at a time."""


class Download:
    """What fetches one file's content from an address, as pooch asks for it (`pooch.retrieve(downloader=...)`).

    What comes is kept in `partial` until it is whole. Another attempt, at another address or by a later command, then
    asks for the rest alone (RFC 9110, Sec. 14), also after the process was killed. Whether the whole is genuine is for
    pooch to say, which knows the digest.

    Args:
        name: what the progress bar shows.
        partial: the path of the part that is there already, in the folder of the result.

    """

    def __init__(self, name: str, partial: Path) -> None:
        self.name, self.partial = name, partial
        self.has_resumed = False
        """Whether the last call took over a part that was there."""

    def __call__(self, url: str, output_file: str | os.PathLike[str], pooch: Any) -> None:
        """Write what is at `url` into `output_file`.

        Raises:
            requests.RequestException: no connection, an answer that is an error, or an end before the promised one.
            OSError: it cannot be written.

        """
        self.has_resumed = False
        with open(self.partial, "ab") as part:
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # Another process downloads it, or the disk knows no locks.
                with open(output_file, "wb") as output:
                    self._receive(url, output)
                return
            self._receive(url, part)
            os.replace(self.partial, output_file)

    def _receive(self, url: str, part: Any) -> None:
        """Append what is missing of `part`; an address that cannot send a rest sends all of it again."""
        import requests

        start = part.seek(0, os.SEEK_END)
        # Compressed on its way, the bytes would not be those that are counted.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if start and response.status_code == requests.codes.requested_range_not_satisfiable:
                # Nothing is missing, unless the part is of something else.
                self.has_resumed = True
                return
            response.raise_for_status()
            range_ = response.headers.get("Content-Range", "")
            self.has_resumed = response.status_code == requests.codes.partial and range_.startswith(f"bytes {start}-")
            if not self.has_resumed:
                start = 0
                part.seek(0)
                part.truncate()
            self._write(response, part, start)

    def _write(self, response: Any, part: Any, start: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        length = response.headers.get("Content-Length", "")
        columns = (TextColumn(f"downloading {self.name}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.name, total=start + int(length) if length.isdigit() else None, completed=start)
            for chunk in response.iter_content(CHUNK):
                part.write(chunk)
                bar.advance(task, len(chunk))
            part.flush()
