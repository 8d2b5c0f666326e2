"""The live view of `promoter watch`.

These modules do not need textual: `words.py` formats figures, `chart.py` draws the chart of upcoming jobs, and
`frame.py` builds the table of queues and a single frame as text or JSON. `source.py` reads the store. `app.py` is the
program with the table of queues. `queue.py` is the screen of one queue, with `details.py` and `letters.py`. Both use
the list of `rows.py` and the dialogs of `dialogs.py`.
"""
