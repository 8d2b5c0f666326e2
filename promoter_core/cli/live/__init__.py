"""The live view of `promoter watch`.

`words.py` says how figures are written, `chart.py` draws the future, `frame.py` makes the table of queues, and one
frame of text or JSON: none of them needs textual. `source.py` reads the store. `app.py` is the program with the table
of queues, `queue.py` the screen of one queue with `details.py` and `letters.py`, `rows.py` the list that both show,
`dialogs.py` asks and confirms.
"""
