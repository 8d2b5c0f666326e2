"""Shared by all servers that speak the Redis protocol: one backend over a small `Driver` that a client implements.

Start with `scripts/promote.lua` and `backend.py`; `driver.py` is what a client must offer, `keys.py` and `member.py`
are the wire format, `replies.py` reads the scripts' replies and `errors.py` the server's error codes;
`options.py` has the options of their URLs, `diagnose.py` what `promoter doctor` looks at.
"""
