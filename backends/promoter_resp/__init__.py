"""Shared by all servers that speak the Redis protocol: one backend over a small `Driver` that a client implements.

Start with `scripts/promote.lua` and `backend.py`. A client provides a `Driver` (`driver.py`). `schedule_calls.py`
splits jobs into calls, `replies.py` reads the scripts' replies, `errors.py` the server's error codes and
`url_options.py` the options of a URL. `waiting_jobs.py` lists and changes waiting jobs, and `stored_replies.py` reads
what the scripts return about them. `reclaim.py` makes room in a full stream; `diagnostics.py` is for `promoter doctor`.
Keys, the member format and the move of due jobs come from a `promoter_core.spi.Layout`, which `rendering.py` compiles
into the scripts.
"""
