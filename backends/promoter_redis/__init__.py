"""The redis-py client under `promoter_resp`: `redis://` and its kin, `embedded://` and `fake://`.

`driver.py` runs scripts, `watcher.py` is the connection on which the server tells of changes (client tracking),
`connect.py` reads URLs, `embedded.py` starts a server of our own.
"""
