"""The Valkey GLIDE client under `promoter_resp`: `glide://`, `glides://` and `glide+cluster://`.

`driver.py` runs scripts and subscribes, `connect.py` reads URLs, `errors.py` has GLIDE's exceptions as ours.
"""
