"""What a real browser makes of a page: Chromium without a window, where it is installed."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MEASURE = """<script>
const boxes = {};
for (const selector of SELECTORS) {
  boxes[selector] = [...document.querySelectorAll(selector)].map(element => {
    const box = element.getBoundingClientRect();
    return [box.left, box.top, box.right, box.bottom];
  });
}
boxes.page = [[0, 0, document.documentElement.scrollWidth, document.documentElement.scrollHeight]];
document.body.innerHTML = "<pre id='boxes'></pre>";
document.getElementById("boxes").textContent = JSON.stringify(boxes);
</script></body>"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def boxes(page: Path, scratch: Path, selectors: list[str], size: tuple[int, int]) -> dict[str, list[list[float]]]:
    """Where the elements of a page are, in CSS pixels: left, top, right and bottom of each, by selector; `page` is the
    whole page.

    The page itself allows no script: that which measures is put into a copy without the policy.
    """
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy = scratch / "measured.html"
    copy.write_text(text.replace("</body>", MEASURE.replace("SELECTORS", json.dumps(selectors))), encoding="utf-8")
    shown = _chromium(scratch, size, "--dump-dom", copy.as_uri())
    (found,) = re.findall(r'<pre id="boxes">(.*?)</pre>', shown)
    return json.loads(found.replace("&gt;", ">").replace("&amp;", "&"))


def _chromium(scratch: Path, size: tuple[int, int], *arguments: str) -> str:
    command = [str(CHROMIUM), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += [f"--user-data-dir={scratch / 'profile'}", f"--window-size={size[0]},{size[1]}"]
    if os.getuid() == 0:
        command.append("--no-sandbox")  # Chromium's own is not to be had as root
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
