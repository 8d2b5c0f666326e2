"""The redis-py client under `promoter_resp`: `redis://` and its kin, `embedded://` and `fake://`.

`connect.py` reads URLs, `credentials.py` asks for passwords that rotate; `driver.py` is one server (or what sentinels
say is one). `connections.py` makes, lends and gives up all connections of a driver together, `link.py` is one of them;
`tick_connection.py` is the connection of ticks, `invalidation_listener.py` the one on which the server announces
changes (client tracking), `sentinel.py` follows the primary.

`cluster.py` has a driver for each node, `topology.py` reads which slot is where, `silence.py` spares calls to a node
that hangs. `fake.py` is fakeredis; `embedded.py` is a server of our own, which `embedded_server.py` and `guard.sh`
start and end. `errors.py` has redis-py's exceptions as ours.
"""
