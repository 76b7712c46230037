"""What a real browser makes of a page: Chromium without a window, where it is installed."""

import json
import os
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

FRAME = """<!DOCTYPE html><body style="margin: 0"><iframe style="border: 0" width="WIDTH" height="HEIGHT" srcdoc="PAGE">
</iframe><pre id="boxes"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, boxes = {};
  for (const selector of SELECTORS) {
    boxes[selector] = [...page.querySelectorAll(selector)].map(element => {
      const box = element.getBoundingClientRect();
      return [box.left, box.top, box.right, box.bottom];
    });
  }
  boxes.page = [[0, 0, page.documentElement.scrollWidth, page.documentElement.scrollHeight]];
  document.getElementById("boxes").textContent = JSON.stringify(boxes);
};
</script></body>"""
"""A page in a frame, as a window of Chromium's is no narrower than 500 pixels."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def boxes(page: Path, scratch: Path, selectors: list[str], size: tuple[int, int]) -> dict[str, list[list[float]]]:
    """Where the elements of a page are, in CSS pixels: left, top, right and bottom of each, by selector; `page` is the
    whole page.

    The page itself allows no script: that which measures is in the page around it.
    """
    fields = {
        "PAGE": escape(page.read_text(encoding="utf-8")),
        "WIDTH": str(size[0]),
        "HEIGHT": str(size[1]),
        "SELECTORS": json.dumps(selectors),
    }
    around = scratch / "around.html"
    around.write_text(re.sub("|".join(fields), lambda found: fields[found[0]], FRAME), encoding="utf-8")
    shown = _chromium(scratch, (size[0] + 200, size[1] + 200), "--dump-dom", around.as_uri())
    (found,) = re.findall(r'<pre id="boxes">(.*?)</pre>', shown)
    return json.loads(unescape(found))


def _chromium(scratch: Path, size: tuple[int, int], *arguments: str) -> str:
    command = [str(CHROMIUM), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += [f"--user-data-dir={scratch / 'profile'}", f"--window-size={size[0]},{size[1]}"]
    if os.getuid() == 0:
        command.append("--no-sandbox")  # Chromium's own is not to be had as root
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
