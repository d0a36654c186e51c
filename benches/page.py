"""docs/performance.md and its chart from the rows of run.py: python benches/page.py ROWS.json

`make bench` writes the rows to target/bench.json and then calls this.
"""
import json
import math
import os
import platform
import re
import subprocess
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT, RIGHT, ROW, TOP = 300, 250, 22, 56
BLUE, ORANGE, INK, FAINT = "#2563ab", "#c2620c", "#1f2328", "#d0d7de"


def machine() -> str:
    """What kind of machine this is."""
    def first(pattern, file):
        found = re.search(pattern, Path(file).read_text(), re.M)
        return found[1].strip() if found else "?"

    memory = int(first(r"^MemTotal:\s*(\d+)", "/proc/meminfo")) / 2**20
    model = first(r"^model name\s*:\s*(.*)$", "/proc/cpuinfo") if platform.machine() == "x86_64" else platform.machine()
    return f"{os.cpu_count()} virtual cores ({model}), {memory:.0f} GiB of memory, Linux {'.'.join(platform.release().split('.')[:2])}"


def seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def speed(row: dict) -> float:
    """How many times as fast as the peer."""
    return row["peer_s"] / row["ours_s"]


def table(rows: list[dict]) -> str:
    lines = ["| case | npk | against | its time | as fast as it | peak memory |", "|---|--:|---|--:|--:|--:|"]
    for row in rows:
        lines.append(f"| {row['case']} | {seconds(row['ours_s'])} | {row['peer']} | {seconds(row['peer_s'])} | {speed(row):.2f} × | {row['peak_mib']:.0f} MiB |")
    return "\n".join(lines)


def chart(rows: list[dict]) -> str:
    """Bars from 1 (as fast as the peer), on a scale of doublings."""
    steps = [math.log2(speed(row)) for row in rows]
    low, high = math.floor(min([*steps, -1])), math.ceil(max([*steps, 1]))
    width = 860
    place = lambda log2: LEFT + (log2 - low) / (high - low) * (width - LEFT - RIGHT)
    bottom = TOP + ROW * len(rows)
    text = lambda x, y, body, anchor="start", fill=INK: f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(body)}</text>'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom + 14}" viewBox="0 0 {width} {bottom + 14}" font-family="system-ui, sans-serif" font-size="12">',
        "<title>How many times as fast as its peer npk is, case by case</title>",
        f'<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="14" y="22" font-size="14" font-weight="600" fill="{INK}">Times as fast as the peer (1 × = as fast; each step doubles)</text>',
    ]
    for step in range(low, high + 1):
        name = f"{2**step} ×" if step >= 0 else f"1/{2**-step} ×"
        out.append(f'<line x1="{place(step):.1f}" x2="{place(step):.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="{INK if step == 0 else FAINT}" stroke-width="1"/>')
        out.append(text(place(step), TOP - 12, name, "middle"))
    for i, (row, log2) in enumerate(zip(rows, steps)):
        y = TOP + i * ROW
        start, end = sorted((place(0), place(log2)))
        out.append(text(LEFT - 10, y + 14, row["case"], "end"))
        out.append(f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1):.1f}" height="{ROW - 8}" rx="2" fill="{BLUE if log2 >= 0 else ORANGE}"/>')
        out.append(text(width - RIGHT + 10, y + 14, f"{speed(row):.2f} × {row['peer']}"))
    return "\n".join([*out, "</svg>"]) + "\n"


def page(rows: list[dict], about: dict) -> str:
    busy = ""
    # Up to one is what a build or a run before has left in the average.
    if about["load"] > os.cpu_count():
        busy = f"""
The machine did other work meanwhile (a load of {about['load']:.0f}): seconds are several times those of an idle machine, what takes
milliseconds waits for its turn more than it works, and only the larger ratios mean something.
"""
    version = subprocess.check_output([about["npk"], "--version"], text=True).split()[1]
    return f"""# Performance

Made by `make bench`: `benches/run.py` measures, `benches/page.py` writes this page and its chart.

Measured: npk {version}, {about['profile']}, on {about['machine']}. Files of {about['mib']} MiB unless the case says otherwise;
medians of {about['runs']} runs each.
{busy}
![How many times as fast as its peer npk is, case by case](performance.svg)

{table(rows)}

## What is compared

- Each figure is a ratio within one run: npk and its peer take turns, each as a whole process from start to end, and the
  medians are divided. The cache is warm. What one of them left to be written is written before the other starts.
- `cp` is `cp --reflink=never` on the same file system: it reads and writes the same bytes and does nothing else, so that
  1 × is as fast as a copy. A peer that is a time (`10 ms`) is a goal, not a program.
- The Python libraries read the same file and write the same values as raw arrays (`tofile`), which is less than npk does:
  it also checks, names, and commits the output as a whole. Their imports are part of their time, as they are of every script.
- Object storage is a SeaweedFS server on the same machine: the server's work is a part of both times.
- Peak memory is the kernel's figure for the finished process. Mapped pages of files that are copied count in it.

## Repeating it

```sh
make bench                                                # everything, on files of 1 GiB: some 20 GiB of disk
.venv/bin/python benches/run.py --only tables --mib 256   # one group, on smaller files
```

Ratios carry over between machines much better than seconds do. On a machine that does other work, compare ratios only. More
cores help npk where bytes are decoded or encoded (compressed files, text), not where they are copied.
"""


def main():
    data = json.loads(Path(sys.argv[1]).read_text())
    (ROOT / "docs/performance.svg").write_text(chart(data["rows"]))
    (ROOT / "docs/performance.md").write_text(page(data["rows"], data))


if __name__ == "__main__":
    main()
