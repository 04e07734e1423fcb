"""What analysts say is kept: undone, written by many at once, killed in the midst."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from mneme._util.errors import CorruptRunError
from mneme.analyst import History

WRITER = """
import sys
from mneme.analyst import History
history = History(sys.argv[1])
for latent in range(int(sys.argv[3])):
    history.add(latent, sys.argv[2], verdict="accept", note=f"note {latent}")
    print(latent, flush=True)
"""


def writer(folder: Path, author: str, n: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), author, str(n)], stdout=subprocess.PIPE, text=True
    )


def test_nothing_said_makes_no_file(tmp_path: Path) -> None:
    assert History(tmp_path).reviews() == {} and not list(tmp_path.iterdir())


def test_the_last_word_on_each_field_holds(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(7, "ann", verdict="accept", note=" seen ", tags=["b", "a", "b", ""], bookmark=True)
    history.add(7, "bob", verdict="reject", label="viruses")
    review = history.reviews()[7]
    assert (review.verdict, review.note, review.tags, review.bookmark) == ("reject", "seen", ("a", "b"), True)
    assert (review.label, review.author) == ("viruses", "bob") and review.at.endswith("+00:00")
    history.add(7, "ann", verdict="", note="", tags=(), bookmark=False, label="")
    assert history.reviews() == {} and len(history.changes()) == 11


def test_undo_takes_back_ones_own_actions_whole_and_keeps_the_history(tmp_path: Path) -> None:
    history = History(tmp_path)
    first = history.add(7, "ann", verdict="accept", note="sure")
    second = history.add(7, "ann", verdict="reject")
    history.add(7, "bob", bookmark=True)
    history.add(8, "ann", verdict="accept")
    assert history.undo(7, "ann") == second and history.reviews()[7].verdict == "accept"
    assert history.undo(7, "ann") == first
    assert (history.reviews()[7].verdict, history.reviews()[7].note) == ("", "")
    assert history.reviews()[7].bookmark and history.reviews()[8].verdict == "accept"
    assert history.undo(7, "ann") is None
    assert len(history.changes()) == 7


@pytest.mark.parametrize("fields", [{"verdict": "maybe"}, {"colour": "red"}, {}])
def test_what_is_no_review_is_refused(tmp_path: Path, fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="review"):
        History(tmp_path).add(1, "ann", **fields)


def test_two_threads_lose_no_row(tmp_path: Path) -> None:
    def write(author: str) -> None:
        for latent in range(15):
            History(tmp_path).add(latent, author, note=author)

    threads = [threading.Thread(target=write, args=(author,)) for author in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changes = History(tmp_path).changes()
    assert len(changes) == 30 and len({c.action for c in changes}) == 30


def test_two_processes_and_a_reader_lose_no_row(tmp_path: Path) -> None:
    writers = [writer(tmp_path, author, 15) for author in ("ann", "bob")]
    seen = 0
    while any(w.poll() is None for w in writers):
        now = len(History(tmp_path).changes())
        assert now >= seen and now % 2 == 0
        seen = now
    for w in writers:
        w.communicate()
        assert w.returncode == 0
    changes = History(tmp_path).changes()
    assert len(changes) == 60 and len({c.action for c in changes}) == 30


def test_kill_9_loses_nothing_that_was_said(tmp_path: Path) -> None:
    for round_ in range(4):
        process = writer(tmp_path, f"author {round_}", 1000)
        assert process.stdout is not None
        heard = 5 * round_ + 1
        assert [process.stdout.readline() for _ in range(heard)] == [f"{latent}\n" for latent in range(heard)]
        process.kill()
        said = heard + len(process.stdout.read().splitlines())
        process.wait()
        process.stdout.close()
        own = [c for c in History(tmp_path).changes() if c.author == f"author {round_}"]
        assert len(own) % 2 == 0 and len(own) // 2 in (said, said + 1)
    History(tmp_path).add(1, "ann", verdict="accept")
    assert History(tmp_path).reviews()[1].verdict == "accept"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "analyst.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(CorruptRunError, match="damaged"):
        History(tmp_path).reviews()


def test_a_file_of_something_else_is_named_and_left_alone(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "analyst.duckdb")) as db:
        db.execute("CREATE TABLE settings (key VARCHAR)")
    with pytest.raises(CorruptRunError, match="holds no reviews"):
        History(tmp_path).reviews()
    with pytest.raises(CorruptRunError, match="holds no reviews"):
        History(tmp_path).add(7, "ann", verdict="accept")
