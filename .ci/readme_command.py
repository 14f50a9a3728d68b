"""Print the shell block that follows ``<!-- ci: NAME -->`` in a Markdown file: ``readme_command.py FILE NAME``."""

import re
import sys
from pathlib import Path


def command(text: str, name: str) -> str:
    """Return the block's text; raises SystemExit where there is not exactly one."""
    found = re.findall(rf"<!-- ci: {re.escape(name)} -->\s*```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
    if len(found) != 1:
        raise SystemExit(f"expected one shell block after <!-- ci: {name} -->, found {len(found)}")
    return str(found[0]).strip()


if __name__ == "__main__":
    print(command(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]))
