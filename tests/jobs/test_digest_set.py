"""The set of digests: what is in it, what was added twice, and what it costs."""

import tracemalloc

from overpaint.jobs.verify.digest_set import DigestSet


def test_contains_exactly_what_was_added():
    paths = DigestSet()
    assert paths.contains(["a"]) == [False]
    paths.add(["a", "b"])
    assert paths.contains(["b", "c", "a"]) == [True, False, True]
    paths.add(["c"])
    assert paths.contains(["c", "d"]) == [True, False]


def test_duplicates_are_counted_within_and_across_additions():
    paths = DigestSet()
    paths.add(["a", "b", "a"])
    paths.add(["b", "c"])
    assert paths.num_duplicates() == 2


def test_each_text_takes_sixteen_bytes():
    names = [f"images/{i:02x}/{i:032x}.png" for i in range(200_000)]
    tracemalloc.start()
    paths = DigestSet()
    for start in range(0, len(names), 4096):
        paths.add(names[start : start + 4096])
    assert paths.num_duplicates() == 0
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size_bytes < 200_000 * 17 + 100_000
