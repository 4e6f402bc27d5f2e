"""URIs of this machine in all the forms in which programs write them."""

import os
from pathlib import Path

import pytest
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.storage.uris import is_local, join, local_path, normalise

NAMES = ["plain", "a b", "a#b", "50%", "a%20b", "é", "e\u0301", "日本", "a?b", "a+b", "a:b", "[x]"]


@pytest.mark.parametrize("name", NAMES)
def test_file_uri_is_the_path_that_it_encodes(tmp_path, name):
    path = tmp_path / name
    uri = path.as_uri()
    short, upper = uri.replace("file://", "file:"), uri.replace("file://", "FILE://")
    for form in (uri, short, upper, uri.replace("file://", "file://localhost")):
        assert is_local(form)
        assert local_path(form) == path
        assert normalise(form) == str(path)
        assert join("/elsewhere", form) == form


@pytest.mark.parametrize("name", NAMES)
def test_path_is_taken_as_it_is(tmp_path, name):
    assert normalise(str(tmp_path / name)) == str(tmp_path / name)


def test_file_that_has_the_name_as_it_stands_goes_first(tmp_path):
    (tmp_path / "a%20b").touch()
    assert local_path(f"file://{tmp_path}/a%20b") == tmp_path / "a%20b"


def test_escapes_that_are_not_utf_8_name_the_file_of_those_bytes(tmp_path):
    name = os.fsdecode(b"t\xe9")
    assert local_path(f"file://{tmp_path}/t%E9") == Path(f"{tmp_path}/{name}")


@pytest.mark.parametrize("uri", ["s3://bucket/file:/x", "http://file/x", "profile://x"])
def test_other_schemes_are_not_of_this_machine(uri):
    assert not is_local(uri)


@pytest.mark.parametrize("uri", ["", "x\0y", os.fsdecode(b"t\xe9"), "~nobody-of-that-name/x"])
def test_uri_that_no_file_can_have_is_refused(uri):
    with pytest.raises(UsageError):
        normalise(uri)
