"""Splits share no source and no near-duplicate, and follow from pixels alone."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from export_runs import exported, noise, row, write_finished
from hypothesis import given, settings
from hypothesis import strategies as st
from overpaint.jobs.export.near import near_duplicates
from overpaint.jobs.export.splits import assign_splits, parse_splits
from overpaint.pipeline.errors import UsageError


def split_by_source(folder):
    """The splits in which each source is."""
    found = {}
    for one in pq.read_table(folder / "rows.parquet").to_pylist():
        found.setdefault(one["seed"], set()).add(one["split"])
    return found


def touched(number):
    """A source with one pixel changed: another file, other pixels, a near-duplicate."""
    pixels = noise(number).copy()
    pixels[0, 0] ^= 1
    return pixels


def test_sources_and_near_duplicates_are_in_one_split(tmp_path):
    rows = [row(n, c) for n in range(24) for c in range(2)]
    rows += [row(n, 9, source=touched(n), edited=touched(n) | 1) for n in range(24)]
    run = write_finished(tmp_path, rows)
    facts = exported(run, tmp_path / "x", "ip2p", split="train=0.5,validation=0.25,test=0.25")
    splits = split_by_source(tmp_path / "x")
    assert len(splits) == 24
    assert all(len(found) == 1 for found in splits.values())
    assert facts["sources"] == {"distinct": 48, "groups": 24}
    assert all(facts["splits"].values())
    assert sum(facts["splits"].values()) == facts["examples"] == 72


def test_split_of_a_source_does_not_depend_on_the_others(tmp_path):
    few = write_finished(tmp_path / "few", [row(n) for n in range(6)])
    many = write_finished(tmp_path / "many", [row(n) for n in reversed(range(20))])
    exported(few, tmp_path / "x", "ip2p", split="train=0.5,test=0.5")
    exported(many, tmp_path / "y", "ip2p", split="train=0.5,test=0.5")
    one, other = split_by_source(tmp_path / "x"), split_by_source(tmp_path / "y")
    assert one == {number: other[number] for number in one}


def test_shares_are_about_what_was_asked_for():
    rng = np.random.default_rng(0)
    digests = np.array([rng.bytes(16) for _ in range(20_000)], "S16")
    hashes = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
    shares = {"train": 0.9, "validation": 0.05, "test": 0.05}
    splits, groups = assign_splits(digests, hashes, shares, 4)
    assert groups > 19_900
    found = np.bincount(splits, minlength=3) / 20_000
    assert np.abs(found - list(shares.values())).max() < 0.01


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.integers(0, 8))
def test_near_duplicates_are_those_that_comparing_all_with_all_finds(values, bits):
    rng = np.random.default_rng(len(values))
    flips = [value ^ (1 << int(rng.integers(64))) for value in values[: len(values) // 2]]
    hashes = np.array(values + flips, np.uint64)
    groups = near_duplicates(hashes, bits)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= bits
    reach = near.copy()
    for _ in range(len(hashes)):
        reach = reach | (reach.astype(int) @ near.astype(int) > 0)
    assert np.array_equal(groups[:, None] == groups[None, :], reach)


def test_identical_hashes_are_one_group_at_once():
    assert set(near_duplicates(np.zeros(200_000, np.uint64), 4).tolist()) == {0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train=0.9", "the shares are 0.9 together"),
        ("train", "'train' is no name and share"),
        ("train=0.5,train=0.5", "'train=0.5' is no name and share"),
        ("a b=1", "is no name and share"),
        ("train=1.5,test=-0.5", "is no name and share"),
    ],
)
def test_wrong_splits_are_named(text, words):
    with pytest.raises(UsageError, match=words):
        parse_splits(text)
