from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection

from keeptrusts import broker
from keeptrusts.celery import app

pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "queue" / "messages"


@pytest.fixture
def channel(folder: Path) -> Iterator[Any]:
    options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "control_folder": str(folder.parent / "control"),
    }
    broker.prepare_folders(options)
    with Connection(broker.URL, transport_options=options) as connection:
        yield connection.default_channel


def test_the_celery_app_speaks_it() -> None:
    broker.register()
    with Connection(broker.URL) as connection:
        assert isinstance(connection.transport, broker.Transport)
    assert app.main == "keeptrusts"


def test_messages_come_out_in_order_and_once(channel: Any) -> None:
    for number in range(5):
        channel._put("celery", {"number": number})
    assert [channel._get("celery")["number"] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(Empty):
        channel._get("celery")


def test_a_queue_gives_only_its_own_messages(channel: Any) -> None:
    channel._put("other", {"for": "other"})
    with pytest.raises(Empty):
        channel._get("celery")
    assert channel._get("other") == {"for": "other"}


def test_folders_and_messages_are_readable_by_the_owner_alone(channel: Any, folder: Path) -> None:
    channel._put("celery", {})
    (message,) = folder.iterdir()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (message, folder, folder.parent)}
    assert modes == {message: 0o600, folder: 0o700, folder.parent: 0o700}


def test_nothing_is_left_of_a_message_that_was_taken(channel: Any, folder: Path) -> None:
    channel._put("celery", {})
    channel._get("celery")
    assert list(folder.iterdir()) == []


def test_an_unreadable_message_is_dropped_and_the_next_one_taken(channel: Any, folder: Path) -> None:
    channel._put("celery", {"number": 1})
    (folder / "00000000000000000001_lost-power.celery.msg").touch()
    assert channel._get("celery") == {"number": 1}
    assert list(folder.iterdir()) == []


def test_readers_and_writers_at_the_same_time_lose_nothing_and_double_nothing(channel: Any) -> None:
    total, written, taken = 400, threading.Event(), []

    def write() -> None:
        for number in range(total):
            channel._put("celery", {"number": number})
        written.set()

    def read() -> None:
        while True:
            over = written.is_set()
            try:
                taken.append(channel._get("celery")["number"])
            except Empty:
                if over:
                    return

    threads = [threading.Thread(target=read) for _ in range(3)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == list(range(total))
    assert not os.listdir(channel.data_folder_in)
