"""The redis-py client under `promoter_resp`: `redis://` and related schemes, `embedded://` and `fake://`.

`connect.py` reads URLs, `credentials.py` handles passwords that rotate. `driver.py` is one server (or the one that
sentinels name). `connections.py` makes, lends and drops all connections of a driver together, `link.py` is one of them;
`tick_connection.py` is the connection of ticks, `invalidation_listener.py` the one on which the server announces
changes (client tracking), `sentinel.py` follows the primary.

`cluster.py` has a driver for each node, `topology.py` reads which node has which slot, `silence.py` avoids calls to a
node that hangs. `fake.py` is fakeredis; `embedded.py` is an embedded server, which `embedded_server.py` and `guard.sh`
start and end. `errors.py` translates redis-py's exceptions.
"""
