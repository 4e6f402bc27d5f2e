import errno
import signal
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from overpaint.pipeline.errors import StoppedError
from overpaint.pipeline.storage.retries import is_transient
from overpaint.pipeline.storage.store import Storage, read_uri
from overpaint.pipeline.storage.uris import join, normalise


@pytest.fixture(params=["local", "memory", "juicefs", "moto"])
def storage(request, tmp_path):
    if request.param == "local":
        return Storage(str(tmp_path / "run"))
    if request.param == "memory":
        return Storage(f"memory://{uuid.uuid4().hex}/run")
    return Storage(request.getfixturevalue("s3" if request.param == "juicefs" else "moto_s3"))


def test_storage_on_every_backend_reads_what_it_wrote(storage):
    assert storage.list() == []
    assert not storage.exists("plan/part-00000.parquet")
    storage.write("plan/part-00000.parquet", b"one")
    storage.write("plan/part-00001.parquet", b"three")
    storage.write("recipe.json", b"{}")
    storage.write("plan/part-00000.parquet", b"two")

    assert storage.read("plan/part-00000.parquet") == b"two"
    assert storage.exists("plan/part-00000.parquet")
    assert not storage.exists("plan")
    assert storage.list("plan") == ["plan/part-00000.parquet", "plan/part-00001.parquet"]
    assert storage.sizes() == {
        "plan/part-00000.parquet": 3,
        "plan/part-00001.parquet": 5,
        "recipe.json": 2,
    }
    assert storage.map(storage.read, storage.list("plan")) == [b"two", b"three"]


def test_storage_uploads_a_local_file_in_one_step(storage, tmp_path):
    file = tmp_path / "local"
    file.write_bytes(b"first")
    storage.upload("a/b", file)
    file.write_bytes(b"second")
    storage.upload("a/b", file)
    assert storage.read("a/b") == b"second"
    assert storage.list() == ["a/b"]
    assert not storage.leftovers()
    assert file.read_bytes() == b"second"


def test_storage_list_a_folder_leaves_out_its_neighbours_with_longer_names(storage):
    storage.write("results/part-00001/a", b"1")
    storage.write("results/part-000010/b", b"2")
    assert storage.list("results/part-00001") == ["results/part-00001/a"]


def test_storage_remove_tree_leaves_the_rest(storage):
    for path in ("work/a/1", "work/a/2", "work/b/1", "worker"):
        storage.write(path, b"x")
    storage.remove_tree("work/a")
    assert storage.list() == ["work/b/1", "worker"]
    storage.remove_tree("work")
    storage.remove_tree("work")
    assert storage.list() == ["worker"]


def test_storage_what_is_absent_is_said_at_once(storage):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError):
        storage.read("nothing")
    storage.remove(["nothing"])
    assert time.monotonic() - start < 5


def test_storage_walk_names_every_object_a_folder_at_a_time(storage):
    names = ["top/a", "top/0f/b", "top/0f/c", "top/1f/d", "top/1f/deep/e", "topper/f"]
    for name in names:
        storage.write(name, b"x")
    found = list(storage.walk("top"))
    assert sorted(name for folder in found for name in folder) == sorted(names[:-1])
    assert ["top/a"] in found
    assert ["top/0f/b", "top/0f/c"] in found
    assert [name for folder in storage.walk("nothing") for name in folder] == []


def test_storage_many_writers_of_one_object_leave_one_of_their_values(storage):
    values = [bytes([i]) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=storage.write, args=("object", v)) for v in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read("object") in values
    assert storage.list() == ["object"]


def test_storage_wrong_secret_is_refused_rather_than_taken_for_an_absent_object(s3, monkeypatch):
    import s3fs

    Storage(s3).write("there", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(PermissionError):
        Storage(s3).exists("there")
    with pytest.raises(PermissionError):
        Storage(s3).read("there")


def test_storage_that_may_not_be_written_stops_the_run(s3, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoppedError, match="could not be written"):
        Storage(s3).write("object", b"x")


KILLED_WRITER = """
import os, signal, sys
from overpaint.pipeline.storage.store import Storage

def die(source, target):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = die
Storage(sys.argv[1]).write("images/a.png", b"new")
"""


def test_storage_writer_killed_before_its_rename_leaves_the_old_object(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("images/a.png", b"old")
    ended = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert storage.read("images/a.png") == b"old"
    assert storage.list() == ["images/a.png"]
    assert len(list((tmp_path / "images").iterdir())) == 2, "what the writer left is still there"
    storage.remove_leftovers()
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.png"]


def test_storage_remove_tree_takes_what_killed_writers_left(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write("_work/results/a", b"x")
    (tmp_path / "_work/results/.b.1234.tmp").write_bytes(b"half")
    storage.remove_tree("_work")
    assert list(tmp_path.iterdir()) == []


def test_storage_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "folder" / "object").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        Storage(str(tmp_path)).write("folder/object", b"x")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["object"]


def test_storage_list_while_files_vanish_lists_the_others(tmp_path):
    storage = Storage(str(tmp_path))
    kept = [f"kept/{i:03d}" for i in range(50)]
    for path in kept:
        storage.write(path, b"x")
    going = [f"going/{i:03d}/x" for i in range(300)]
    for path in going:
        storage.write(path, b"x")
    remover = threading.Thread(target=storage.remove_tree, args=("going",))
    remover.start()
    while remover.is_alive():
        assert [path for path in storage.list() if path.startswith("kept/")] == kept
    remover.join()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (OSError(errno.EBUSY, "Please reduce your request rate"), True),
        (OSError(errno.EIO, "InternalError"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (FileNotFoundError("gone"), False),
        (PermissionError("denied"), False),
        (ValueError("not of the storage"), False),
    ],
)
def test_is_transient_by_error(error, expected):
    assert is_transient(error) is expected


def test_is_transient_knows_the_clients_own_errors():
    from aiohttp import ClientPayloadError, ServerDisconnectedError
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError

    assert is_transient(EndpointConnectionError(endpoint_url="x"))
    assert is_transient(ReadTimeoutError(endpoint_url="x"))
    assert is_transient(ServerDisconnectedError())
    assert is_transient(ClientPayloadError())
    assert not is_transient(NoCredentialsError())


class _Flaky(BaseHTTPRequestHandler):
    """Fails the first requests for a path as its name says, then answers."""

    seen: ClassVar[dict[str, int]] = {}

    def do_GET(self):
        count = self.seen[self.path] = self.seen.get(self.path, 0) + 1
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/gone" or (self.path == "/busy" and count < 3):
            return self.send_error(503)
        if self.path == "/cut" and count < 3:
            return self.connection.close()
        if self.path == "/short" and count < 3:
            return self._send(b"half", 8)
        return self._send(b"whole", 5)

    def _send(self, body, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def flaky():
    _Flaky.seen = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Flaky)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("trouble", ["busy", "cut", "short"])
def test_read_uri_from_a_flaky_server_tries_again(flaky, trouble):
    assert read_uri(f"{flaky}/{trouble}") == b"whole"
    assert _Flaky.seen[f"/{trouble}"] == 3


def test_read_uri_of_a_server_that_does_not_come_back_stops_the_run(flaky, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StoppedError, match="does not answer"):
        read_uri(f"{flaky}/gone")
    assert _Flaky.seen["/gone"] == 10


def test_read_uri_of_a_missing_page_asks_once(flaky):
    with pytest.raises(FileNotFoundError):
        read_uri(f"{flaky}/missing")
    assert _Flaky.seen["/missing"] == 1


def test_join_by_kind_of_path():
    assert join("s3://bucket/run", "images/a.png") == "s3://bucket/run/images/a.png"
    assert join("/data/", "a.png") == "/data/a.png"
    assert join("/data", "/other/a.png") == "/other/a.png"
    assert join("/data", "s3://bucket/a.png") == "s3://bucket/a.png"
    assert join("", "a.png") == "a.png"


def test_normalise_makes_one_uri_of_many_spellings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert normalise("run/") == normalise("./run") == normalise(f"file://{tmp_path}/run")
    assert normalise("s3://bucket/run/") == "s3://bucket/run"
