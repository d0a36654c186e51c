"""Fails where a binary needs a newer glibc than it should: symbols.py BINARY VERSION"""
import re
import subprocess
import sys

binary, most = sys.argv[1], tuple(map(int, sys.argv[2].split(".")))
listed = subprocess.check_output(["objdump", "-T", binary], text=True)
needed = {}
for line in listed.splitlines():
    if found := re.search(r"\(?GLIBC_([0-9.]+)\)?\s+(\S+)$", line):
        needed[found[2]] = tuple(map(int, found[1].split(".")))
if not needed:
    sys.exit(f"{binary}: no symbols of glibc were found")
above = {name: v for name, v in needed.items() if v > most}
if above:
    names = ", ".join(f"{name} ({'.'.join(map(str, v))})" for name, v in sorted(above.items()))
    sys.exit(f"{binary} needs more than glibc {sys.argv[2]}: {names}")
newest = ".".join(map(str, max(needed.values())))
print(f"{binary}: {len(needed)} symbols of glibc, none newer than {newest}")
