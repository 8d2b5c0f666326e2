"""Five processes change jobs at random beside both promoters; `python -m tests.changes` is the long one."""

from __future__ import annotations

import pytest

from tests.changes.__main__ import Changes
from tests.servers import find


@pytest.mark.parametrize("server", ["valkey-9.1", "redis-8.2"])
@pytest.mark.server
@pytest.mark.timeout(300)
async def test_every_id_is_accounted_for(server):
    pytest.importorskip("chasquimq")
    pytest.importorskip("glide")
    if find(server) is None:
        pytest.skip(f"{server} is not installed")
    account = await Changes(server, seed=3).run(3)
    assert account.good, str(account)
    assert account.led.keys() >= {"ours", "theirs"}, "both promoters had their turn"
    answers = {what for what, n in account.requests.items() if n}
    assert {"run_now promoted", "put replaced", "extend moved", "cancel removed", "cancel_delayed True"} <= answers
