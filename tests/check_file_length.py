"""Fails when a source file has 300 lines or more: a larger one is two rooms."""

import subprocess
import sys
from pathlib import Path

LIMIT = 300

files = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.py", "*.lua"], capture_output=True, text=True, check=True
)
long = [(len(Path(f).read_text().splitlines()), f) for f in files.stdout.split() if Path(f).exists()]
long = sorted(item for item in long if item[0] >= LIMIT)
for lines, file in long:
    print(f"{file}: {lines} lines, at most {LIMIT - 1} are allowed")
sys.exit(bool(long))
