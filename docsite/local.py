"""Makes a built site complete: nothing in it is fetched from elsewhere.

`python -m docsite.local SITE NODE_MODULES` puts the libraries of npm into the site, in place of addresses of a CDN.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

_SHIM = re.compile(r"https://unpkg\.com/iframe-worker/shim")
_EXTERNAL = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"')
_LIBRARIES = {
    "iframe-worker/shim/index.js": "assets/javascripts/iframe-worker.js",
    "mermaid/dist/mermaid.min.js": "assets/javascripts/mermaid.min.js",
}


def complete(site: Path, modules: Path) -> list[str]:
    """Returns what pages would still fetch, by address."""
    for source, target in _LIBRARIES.items():
        shutil.copyfile(modules / source, site / target)
    left: set[str] = set()
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        text = _SHIM.sub(f"{up}assets/javascripts/iframe-worker.js", text)
        if 'class="mermaid"' in text:
            script = f'<script src="{up}assets/javascripts/mermaid.min.js"></script>'
            text = text.replace("</head>", f"{script}</head>", 1)
        page.write_text(text, encoding="utf-8")
        left |= set(_EXTERNAL.findall(text))
    return sorted(left)


if __name__ == "__main__":
    if found := complete(Path(sys.argv[1]), Path(sys.argv[2])):
        sys.exit(f"the site would fetch {', '.join(found)}")
