"""The process's HTTP pages: /metrics, /livez, /readyz and /status."""
