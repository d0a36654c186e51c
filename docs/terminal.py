"""Makes the pictures of the documentation from real runs: python3 docs/terminal.py

Needs npk on PATH, `rich`, and for the PNG files chromium.
"""
import array
import json
import math
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
TERMINAL = [
    "npk convert model.safetensors model.npk",
    "npk list -l model.npk | head -4",
    "npk convert model.npk back.safetensors -q && cmp model.safetensors back.safetensors",
    "npk inspect orders.csv",
    "npk convert damaged.npy out.npk",
]
DIFFERENCE = ["npk diff base.safetensors tuned.safetensors --summary"]
HEAT = ["npk inspect base.safetensors --heat -a layers.1.mlp.weight"]


def run(command: str, directory: str, columns: int, lines: int) -> str:
    """What a command prints on a terminal of this size."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        ["bash", "-c", f"stty cols {columns} rows {lines}; {command}"], cwd=directory, env=environment,
        stdin=child, stdout=child, stderr=child,
    )
    os.close(child)
    out = b""
    while True:
        try:
            more = os.read(parent, 65536)
        except OSError:
            break
        if not more:
            break
        out += more
    process.wait()
    # Progress bars draw over their line.
    text = out.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rsplit("\r", 1)[-1] for line in text).rstrip("\n")


def picture(commands: list[str], directory: str, columns: int = 96, lines: int = 40) -> str:
    """Commands and what they print, as SVG that stands alone: no fonts from elsewhere."""
    console = Console(record=True, width=columns, file=open(os.devnull, "w"), force_terminal=True, color_system="truecolor")
    for command in commands:
        console.print(Text("$ ", style="bold green") + Text(command, style="bold"))
        console.print(Text.from_ansi(run(command, directory, columns, lines)))
    svg = console.export_svg(title="npk")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)


def checkpoint(path: Path, changed: float) -> None:
    """A small model, the same in every run; `changed`: how much later layers were trained."""
    rng, change = random.Random(7), random.Random(8)
    header, data = {}, b""
    for layer in range(4):
        for name, rows, columns in (("attn.weight", 128, 128), ("mlp.weight", 256, 128), ("norm.bias", 1, 128)):
            wave = lambda r, c: math.sin(r / 19 + layer) * math.cos(c / 13) if rows > 1 else 0.0
            values = array.array("f", (0.4 * wave(r, c) + rng.gauss(0, 0.1) for r in range(rows) for c in range(columns)))
            for i in range(len(values)):
                if change.random() < changed * layer / 4:
                    values[i] += change.gauss(0, 0.01)
            if (layer, name) == (1, "mlp.weight"):
                for r in range(60, 72):
                    values[r * columns + 90 : r * columns + 100] = array.array("f", [math.nan] * 10)
            shape = [rows, columns] if rows > 1 else [columns]
            header[f"layers.{layer}.{name}"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)],
            }
            data += values.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def screenshot(page: Path, address: str, to: Path, width: int, height: int) -> None:
    """A page as PNG."""
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={to}",
         f"--window-size={width},{height}", page.as_uri() + address],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        fixtures = HERE.parent / "fixtures"
        for source, name in (
            ("good/safetensors/mixed.safetensors", "model.safetensors"),
            ("good/csv/pandas.csv", "orders.csv"),
            ("bad/npy/truncated.npy", "damaged.npy"),
        ):
            shutil.copy(fixtures / source, folder / name)
        checkpoint(folder / "base.safetensors", 0)
        checkpoint(folder / "tuned.safetensors", 0.3)
        (HERE / "terminal.svg").write_text(picture(TERMINAL, directory))
        (HERE / "difference.svg").write_text(picture(DIFFERENCE, directory, 88))
        heat = folder / "heat.svg"
        heat.write_text(picture(HEAT, directory, 84, 30))
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', heat.read_text()).groups())
        screenshot(heat, "", HERE / "heat.png", math.ceil(width * 0.75), math.ceil(height * 0.75))
        report = folder / "report.html"
        subprocess.run(["npk", "inspect", "base.safetensors", "--html", report, "-q"], cwd=directory, check=True)
        screenshot(report, "#layers.1.mlp.weight", HERE / "report.png", 1000, 1250)


main()
