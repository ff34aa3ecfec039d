"""Two processes at the same cache, lock and spool, one of them killed now and then.

A few rounds here; EDLAB_RACES=500 makes as many as are wanted.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from edlab.agent import locks
from edlab.cache import Cache
from edlab.record import RunRecord
from edlab.tracking import Files
from edlab.tracking.spool import Spool

ROUNDS = int(os.environ.get("EDLAB_RACES", "20"))
_fork = multiprocessing.get_context("fork")


def race(work: Callable[[], None], rng: random.Random, *, kill: bool) -> None:
    """Two processes do the work at once; one of them may be killed in the middle of it."""
    pair = [_fork.Process(target=work) for _ in range(2)]
    for process in pair:
        process.start()
    if kill:
        time.sleep(rng.uniform(0, 0.02))
        pair[0].kill()
    for process in pair:
        process.join(timeout=60)
        assert process.exitcode is not None, "it hangs"
    assert pair[1].exitcode == 0


def test_an_entry_of_the_cache_is_whole_whoever_makes_it_and_is_killed(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(ROUNDS):
        cache, key, made = Cache(tmp_path / "cache"), f"key{number}", tmp_path / f"made{number}"

        def make(folder: Path, made: Path = made) -> None:
            with open(made, "a") as log, open(folder / "out", "w") as out:
                log.write("x")
                for _ in range(5):
                    out.write("part ")
                    out.flush()
                    time.sleep(0.001)

        def work(cache: Cache = cache, key: str = key) -> None:
            assert (cache.get_or_make("steps", key, make) / "out").read_text() == "part " * 5

        killed = rng.random() < 0.5
        race(work, rng, kill=killed)
        assert len(made.read_text()) <= 1 + killed
    cache.tidy()
    assert not list((tmp_path / "cache").glob("*/.*-*"))


def test_one_process_at_a_time_has_the_lock_of_a_machine(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv(locks.FOLDER_VARIABLE, str(tmp_path))
    rng, inside = random.Random(1), tmp_path / "inside"

    def work() -> None:
        for _ in range(2):
            held = locks.acquire("machine", "me@here", os.getpid(), 30, lambda message: None)
            descriptor = os.open(inside, os.O_CREAT | os.O_EXCL)  # fails where another is inside
            time.sleep(0.001)
            os.close(descriptor)
            inside.unlink()
            os.close(held)

    monkeypatch.setattr(locks, "_POLL_S", 0.001)
    for _ in range(ROUNDS):
        race(work, rng, kill=False)


def test_what_waits_is_sent_once_whoever_sends_and_is_killed(tmp_path: Path) -> None:
    rng = random.Random(2)
    for number in range(ROUNDS):
        spool, sent = Spool(tmp_path / f"spool{number}"), tmp_path / f"sent{number}"
        records = [RunRecord(name=f"run{n}", sweep_id="s", started_at="2026-01-01T00:00:00+00:00") for n in range(3)]
        for record in records:
            spool.add(record, Files(), "store", tmp_path)

        def work(spool: Spool = spool, sent: Path = sent) -> None:
            with spool.sending() as granted:
                for entry in spool.entries() if granted else ():
                    with open(sent, "a") as log:
                        log.write(entry.record().name + "\n")
                    spool.remove(entry)

        killed = rng.random() < 0.5
        race(work, rng, kill=killed)
        names = sent.read_text().split()
        assert sorted(set(names), key=names.index) == [record.name for record in records]
        assert len(names) <= 3 + killed  # one that is killed between sending and removing is sent again
        assert spool.entries() == []
