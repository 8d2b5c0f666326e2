"""The Valkey GLIDE client under `promoter_resp`: `glide://`, `glides://` and `glide+cluster://`. See `driver.py`."""
