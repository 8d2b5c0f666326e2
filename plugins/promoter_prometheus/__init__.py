"""The `prometheus` metrics sink: `sink.py` records, `figures.py` writes the page, `server.py` answers on `port=`."""
