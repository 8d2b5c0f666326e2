"""The redis-py client under `promoter_resp`: `redis://` and its kin, `embedded://` and `fake://`.

`connect.py` reads URLs; `driver.py` is one server (or what sentinels say is one), `cluster.py` a driver a node;
`ticker.py` is the connection of ticks and `watcher.py` the one on which the server tells of changes (client tracking);
`embedded.py` starts a server of our own.
"""
