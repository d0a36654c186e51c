"""Makes docs/terminal.svg from a real run: python3 docs/terminal.py (needs npk on PATH, and `rich`)."""
import os
import pty
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COMMANDS = [
    "npk convert model.safetensors model.npk",
    "npk list -l model.npk | head -4",
    "npk convert model.npk back.safetensors -q && cmp model.safetensors back.safetensors",
    "npk inspect orders.csv",
    "npk convert damaged.npy out.npk",
]


def run(command: str, directory: str) -> str:
    """What a command prints on a terminal of 96 columns."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "96", "LINES": "40"}
    process = subprocess.Popen(
        ["bash", "-c", f"stty cols 96 rows 40; {command}"], cwd=directory, env=environment,
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
    lines = [line.rsplit("\r", 1)[-1] for line in out.decode().replace("\r\n", "\n").split("\n")]
    return "\n".join(line for line in lines).rstrip("\n")


def main() -> None:
    console = Console(record=True, width=96, file=open(os.devnull, "w"), force_terminal=True)
    with tempfile.TemporaryDirectory() as directory:
        fixtures = HERE.parent / "fixtures"
        for source, name in (
            ("good/safetensors/mixed.safetensors", "model.safetensors"),
            ("good/csv/pandas.csv", "orders.csv"),
            ("bad/npy/truncated.npy", "damaged.npy"),
        ):
            shutil.copy(fixtures / source, Path(directory) / name)
        for command in COMMANDS:
            console.print(Text("$ ", style="bold green") + Text(command, style="bold"))
            console.print(Text.from_ansi(run(command, directory)))
    svg = console.export_svg(title="npk")
    # The picture stands alone: no fonts from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
    (HERE / "terminal.svg").write_text(svg)


main()
