"""Fails when a source file has more than 400 lines: it is probably two subjects."""

import subprocess
import sys
from pathlib import Path

LIMIT = 400

files = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.py", "*.lua"], capture_output=True, text=True, check=True
)
long = [(len(Path(f).read_text().splitlines()), f) for f in files.stdout.split() if Path(f).exists()]
long = sorted(item for item in long if item[0] > LIMIT)
for lines, file in long:
    print(f"{file}: {lines} lines, at most {LIMIT} are allowed")
sys.exit(bool(long))
