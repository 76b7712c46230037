"""Downloads from servers of this machine that are down, break off, send something else, or know no ranges."""

import fcntl
import hashlib
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hvae_spec.data import registry
from hvae_spec.data.cache import Source, download, locate
from hvae_spec.data.canonical import is_canonical
from hvae_spec.data.download import CHUNK
from hvae_spec.errors import DataError

CONTENT = bytes(range(256)) * 1_000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """A server of `server.content`, of which it sends so many bytes at most."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        rest = server.content[start:]
        self.send_response(206 if asked and server.ranges else 200)
        self.send_header("Content-Length", str(len(rest)))
        if asked and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        sent = rest[: server.at_most]
        server.sent += len(sent)
        self.wfile.write(sent)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(content=CONTENT, status=200, ranges=True, at_most=None):
    """A server and its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.status, server.ranges, server.at_most = content, status, ranges, at_most
        server.asked, server.sent = [], 0
        server.url = f"http://127.0.0.1:{server.server_port}/file.gz"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def dead_address():
    """The URL of a port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/file.gz"


def source(*urls):
    return Source("mnist", "file.gz", urls, DIGEST)


def test_what_is_down_missing_or_of_another_digest_is_followed_by_the_next_address(tmp_path):
    with serving(status=404) as missing, serving(b"tampered") as tampered, serving() as good:
        path = download(source(dead_address(), missing.url, tampered.url, good.url), tmp_path)
    assert path == tmp_path / "file.gz"
    assert path.read_bytes() == CONTENT
    assert [item.name for item in tmp_path.iterdir()] == ["file.gz"]
    assert good.sent == len(CONTENT)


def test_each_address_says_what_was_wrong_with_it_and_a_wrong_file_leaves_nothing(tmp_path):
    with serving(status=404) as missing, serving(b"tampered") as tampered:
        urls = dead_address(), missing.url, tampered.url
        with pytest.raises(DataError) as caught:
            download(source(*urls), tmp_path)
    message = str(caught.value)
    assert f"{urls[0]}: no connection" in message
    assert f"{urls[1]}: 404 Client Error" in message
    assert f"{urls[2]}: its content does not match the expected digest" in message
    assert list(tmp_path.iterdir()) == []


def test_a_later_command_goes_on_where_a_connection_broke_off(tmp_path):
    with serving(at_most=100_000) as broken, pytest.raises(DataError, match="the same command goes on where it did"):
        download(source(broken.url), tmp_path)
    assert (tmp_path / ".file.gz.part").stat().st_size == CHUNK
    assert not (tmp_path / "file.gz").exists()
    with serving() as whole:
        assert download(source(whole.url), tmp_path).read_bytes() == CONTENT
    assert whole.asked == [f"bytes={CHUNK}-"]
    assert whole.sent == len(CONTENT) - CHUNK
    assert [item.name for item in tmp_path.iterdir()] == ["file.gz"]


def test_the_next_address_goes_on_where_a_connection_broke_off(tmp_path):
    with serving(at_most=CHUNK) as broken, serving() as whole:
        assert download(source(broken.url, whole.url), tmp_path).read_bytes() == CONTENT
    assert whole.sent == len(CONTENT) - CHUNK


def test_an_address_that_knows_no_ranges_sends_all_of_it_again(tmp_path):
    (tmp_path / ".file.gz.part").write_bytes(CONTENT[:1_000])
    with serving(ranges=False) as server:
        assert download(source(server.url), tmp_path).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("left", [b"of another file", b"x" * (len(CONTENT) + 1)], ids=["shorter", "longer"])
def test_a_part_of_something_else_is_dropped_and_the_file_fetched_whole(tmp_path, left):
    (tmp_path / ".file.gz.part").write_bytes(left)
    with serving() as server:
        assert download(source(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(left)}-", None]
    assert [item.name for item in tmp_path.iterdir()] == ["file.gz"]


def test_a_part_that_is_whole_already_is_taken(tmp_path):
    (tmp_path / ".file.gz.part").write_bytes(CONTENT)
    with serving() as server:
        assert download(source(server.url), tmp_path).read_bytes() == CONTENT
    assert server.sent == 0


def test_two_processes_do_not_write_into_one_part(tmp_path):
    part = tmp_path / ".file.gz.part"
    with open(part, "wb") as other, serving() as server:
        other.write(CONTENT[:10])
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        assert download(source(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None]
    assert part.read_bytes() == CONTENT[:10]


@pytest.mark.parametrize("name", registry.SOURCES)
def test_every_registered_file_has_a_digest_and_none_of_its_paths_takes_another_file(tmp_path, monkeypatch, name):
    """Each address of each published file, answered by a server that has something else."""
    monkeypatch.delenv("HVAE_DATA_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path))
    with serving(b"something else") as server:
        for item in registry.SOURCES[name]:
            assert item.digest.partition(":")[0] in ("sha256", "md5")
            urls = tuple(f"{server.url}?{url}" for url in item.urls)
            with pytest.raises(DataError) as caught:
                locate(Source(item.dataset, item.name, urls, item.digest, item.content_digest))
            assert str(caught.value).count("does not match the expected digest") == len(urls)
            assert not (tmp_path / "data" / item.dataset / item.name).exists()


@pytest.mark.real_data
def test_published_files_come_through_a_server_as_they_are(tmp_path):
    """The MNIST files that are here byte for byte as published."""
    import os
    from pathlib import Path

    folder = Path(os.environ["HVAE_DATA_DIR"], "mnist")
    for item in registry.SOURCES["mnist"][1:]:
        content = (folder / item.name).read_bytes()
        with serving(content, at_most=len(content) // 2) as broken, serving(content) as whole:
            urls = broken.url, whole.url
            path = download(Source(item.dataset, item.name, urls, item.digest, item.content_digest), tmp_path)
        assert path.read_bytes() == content
        assert is_canonical(path, item)
