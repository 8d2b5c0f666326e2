"""The engine: two automata without I/O. Private; the runner performs what it decides."""
