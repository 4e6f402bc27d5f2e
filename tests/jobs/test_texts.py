import tracemalloc

from overpaint.jobs.verify.digest_set import Texts


def test_texts_know_what_was_added_and_take_sixteen_bytes_each():
    names = [f"images/{i:02x}/{i:032x}.png" for i in range(200_000)]
    tracemalloc.start()
    texts = Texts()
    for start in range(0, len(names), 4096):
        texts.add(names[start : start + 4096])
    assert texts.num_repeated() == 0
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000 * 17 + 100_000
    assert texts.has([names[0], "images/stray.png", names[-1]]) == [True, False, True]
    texts.add(names[:3])
    assert texts.num_repeated() == 3
    assert Texts().has(["a"]) == [False]
