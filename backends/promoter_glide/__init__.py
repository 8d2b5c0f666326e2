"""The Valkey GLIDE client under `promoter_resp`: `glide://`, `glides://` and `glide+cluster://`.

`connect.py` reads URLs, `driver.py` runs scripts and commands, `clients.py` replaces GLIDE's clients when the server
changes, `subscriber.py` receives announcements and probes itself, `errors.py` translates GLIDE's exceptions.
"""
