"""A short soak; `make soak` is the long one."""

from __future__ import annotations

import pytest

from tests.servers import find
from tests.soak import Soak


@pytest.mark.server
@pytest.mark.whole_matrix
@pytest.mark.skipif(find("valkey-9.1") is None, reason="valkey-9.1 is not installed")
@pytest.mark.timeout(180)
async def test_many_queues_many_promoters_and_faults_lose_and_repeat_nothing():
    account = await Soak(queues=20, promoters=5, seed=7).run(12)
    assert account.good, str(account)
