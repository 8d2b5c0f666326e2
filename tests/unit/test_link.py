"""What a `Link` sends: the same bytes with hiredis and without, in order, in writes that are not too large."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Connection

from promoter_redis import link as links
from promoter_redis.link import SENT_AT_ONCE, Link


class Recording(Connection):
    """Never connected: it keeps what is sent, and answers OK."""

    is_connected = True

    def __init__(self):
        super().__init__()
        self.writes: list[bytes] = []

    async def send_packed_command(self, command, check_health=True):
        assert not check_health
        self.writes.append(b"".join(command))

    async def read_response(self):
        return b"OK"


@pytest.mark.parametrize("with_hiredis", [True, False])
async def test_commands_are_sent_in_order_and_while_the_next_are_packed(monkeypatch, with_hiredis):
    if with_hiredis:
        pytest.importorskip("hiredis")
    else:
        monkeypatch.setattr(links, "pack_command", None)
    commands: list[Sequence[str | int | bytes]] = [
        ("PING",),
        ("EVALSHA", "ä", 1, b"\xff\x00", 5, b"x" * 30_000, b""),
    ] * 10
    commands += [["SET", b"k", b"v" * 500_000], ["GET", b"k"]]
    connection = Recording()
    assert await Link(connection).send(commands) == [b"OK"] * len(commands)
    expected = [b"".join(Connection().pack_command(*command)) for command in commands]
    assert b"".join(connection.writes) == b"".join(expected)
    assert 4 < len(connection.writes) < len(commands)
    assert all(len(write) >= SENT_AT_ONCE for write in connection.writes[:-1])
    assert await Link(connection).send([]) == []
