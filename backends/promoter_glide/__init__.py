"""The Valkey GLIDE client under `promoter_resp`: `glide://`, `glides://` and `glide+cluster://`.

`connect.py` reads URLs, `driver.py` runs scripts and commands, `clients.py` makes GLIDE's clients anew when the server
is not ours any more, `subscriber.py` receives announcements and probes itself, `errors.py` has GLIDE's exceptions as
ours.
"""
