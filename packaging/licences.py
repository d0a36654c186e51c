"""Writes the licences of everything that is linked into npk: THIRD-PARTY.txt, shipped with every binary.

usage: licences.py OUTPUT [cargo metadata arguments]
"""
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
NAMES = ("license", "licence", "copying", "notice", "unlicense")
# C libraries that a crate builds: where their licence is, below the crate or (the crate lacks it) here.
LIBRARIES = {
    "blosc-src": [HERE / "licences/c-blosc.txt"],
    "hdf5-metno-src": ["ext/hdf5/LICENSE"],
    "libdeflate-sys": ["libdeflate/COPYING"],
    "liblzma-sys": ["xz/COPYING", "xz/COPYING.0BSD"],
    "libmimalloc-sys": ["c_src/mimalloc/v3/LICENSE"],
    "lz4-sys": ["liblz4/lib/LICENSE", "liblz4/LICENSE"],
    "zstd-sys": ["zstd/LICENSE"],
}


def texts(package: dict) -> list[pathlib.Path]:
    folder = pathlib.Path(package["manifest_path"]).parent
    own = sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().startswith(NAMES))
    return own + [p for name in LIBRARIES.get(package["name"], []) if (p := folder / name).is_file()]


def main() -> None:
    output, arguments = sys.argv[1], sys.argv[2:]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", *arguments]
    metadata = json.loads(subprocess.check_output(command))
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    linked, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        node = nodes[waiting.pop()]
        for dep in node["deps"]:
            # Tests and build scripts are not shipped, but what a build script compiles is: build
            # dependencies named *-src hold the sources of C libraries.
            kinds = {k["kind"] for k in dep["dep_kinds"]}
            if (None in kinds or "build" in kinds and packages[dep["pkg"]]["name"].endswith("-src")) and dep["pkg"] not in linked:
                linked.add(dep["pkg"])
                waiting.append(dep["pkg"])
    without, seen = [], {}
    for package in sorted((packages[i] for i in linked), key=lambda p: (p["name"], p["version"])):
        files = texts(package)
        name = f"{package['name']} {package['version']} ({package['license'] or 'see its text'})"
        if not files:
            without.append(name)
        for file in files:
            text = "\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines())
            seen.setdefault(text, []).append(name)
    with open(output, "w") as out:
        out.write("npk is built with the libraries below. Their licences follow, each text once.\n")
        for text, names in seen.items():
            out.write("\n" + "=" * 80 + "\n" + "\n".join(dict.fromkeys(names)) + "\n" + "-" * 80 + "\n" + text + "\n")
        if without:
            out.write("\n" + "=" * 80 + "\nWithout a text of their own, under the licences named:\n" + "\n".join(without) + "\n")
    print(f"{output}: {len(linked)} packages, {len(seen)} texts, {len(without)} without one")


main()
