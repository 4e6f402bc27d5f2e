"""Weights of a store: fetched once a machine, whole, by one of the processes that ask for them."""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from overpaint.operators.models.fetching import MIRROR, MODELS
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline.storage.store import Storage
from weights_askers import ask_at_once


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    monkeypatch.setenv(MODELS, str(folder))
    return folder


def _put(uri, num_bytes):
    storage = Storage(uri)
    storage.write("config.json", json.dumps({"width": 1}).encode())
    storage.write("model.safetensors", b"w" * num_bytes)
    storage.write("part/more.safetensors", b"more")
    storage.write("pytorch_model.bin", b"pickled")


class Counting:
    """A proxy before an S3 server that counts the requests for each object."""

    def __init__(self, to):
        self.gets: list[str] = []
        keeper, target = self, urlsplit(to)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                # A large object may be asked for in ranges: each is asked for once.
                if self.command == "GET":
                    asked = self.headers.get("Range", "all")
                    keeper.gets.append(f"{self.path.split('?')[0]} {asked}")
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                other = http.client.HTTPConnection(target.hostname, target.port)
                other.request(self.command, self.path, body, dict(self.headers))
                answer = other.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                size = answer.getheader("Content-Length")
                data = b"" if size is not None else answer.read()
                self.send_header("Content-Length", size or str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                while chunk := answer.read(2**20):
                    self.wfile.write(chunk)

            do_GET = do_PUT = do_HEAD = do_POST = _pass  # noqa: N815

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


def _eight_fetch_once(uri, num_bytes, models):
    _put(uri, num_bytes)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    environment = {**{name: os.environ[name] for name in names}, MODELS: str(models)}
    with Counting(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        environment |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_ENDPOINT_URL_S3": proxy.url}
        codes, found = ask_at_once(8, environment, uri)
        asked = Counter(path for path in proxy.gets if "/model.safetensors " in path)
    assert codes == [0] * 8
    assert len(found) == 1
    (folder,) = map(Path, found)
    assert folder.parent == models
    assert (folder / "model.safetensors").stat().st_size == num_bytes
    assert not (folder / "pytorch_model.bin").exists()
    assert set(asked.values()) == {1}
    assert not list(models.glob("*.tmp"))


@pytest.mark.s3
def test_eight_processes_that_start_together_fetch_once(moto_s3, models):
    _eight_fetch_once(f"{moto_s3}/model", 2**20, models)


@pytest.mark.s3
@pytest.mark.slow
def test_eight_processes_fetch_200_mb_once(s3, models):
    _eight_fetch_once(f"{s3}/model", 200_000_000, models)


@pytest.mark.s3
def test_folder_of_a_store_is_that_of_this_machine(moto_s3, models, tmp_path):
    uri = f"{moto_s3}/model"
    _put(uri, 64)
    _put(str(tmp_path / "here"), 64)
    here = Checkpoint(name=str(tmp_path / "here")).identity()
    there = Checkpoint(name=uri)
    there.check()
    assert there.identity() == here
    assert Checkpoint(name=uri, revision=here).fetched().path.startswith(str(models))
    with pytest.raises(ValueError, match="the files there"):
        Checkpoint(name=uri, revision="0" * 16).fetched()


@pytest.mark.s3
def test_pinned_weights_that_are_here_ask_nobody(moto_s3, models, monkeypatch):
    uri = f"{moto_s3}/model"
    _put(uri, 64)
    pinned = Checkpoint(name=uri).identity()
    folder = Checkpoint(name=uri, revision=pinned).fetched().path
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert Checkpoint(name=uri, revision=pinned).fetched().path == folder


@pytest.mark.s3
def test_mirror_is_asked_in_place_of_the_hub(moto_s3, models, monkeypatch):
    _put(f"{moto_s3}/mirror/owner/name/abc123", 64)
    monkeypatch.setenv(MIRROR, f"{moto_s3}/mirror")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    named = Checkpoint(name="owner/name", revision="abc123")
    found = named.fetched()
    assert (Path(found.path) / "model.safetensors").read_bytes() == b"w" * 64
    assert named.identity() == "abc123"


@pytest.mark.s3
def test_prefix_without_a_checkpoint_is_refused(moto_s3):
    with pytest.raises(ValueError, match=r"neither config\.json"):
        Checkpoint(name=f"{moto_s3}/nothing").check()


def test_hub_id_that_is_not_here_is_said_to_be_offline(models, tmp_path):
    code = (
        "from overpaint.operators.models.weights import Checkpoint\n"
        "try:\n    Checkpoint(name='owner/name', revision='a' * 40).fetched()\n"
        "except ValueError as error:\n    print(error)\n"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), MODELS: str(models)}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be fetched: HF_HUB_OFFLINE is set and it is not here" in ran.stdout
