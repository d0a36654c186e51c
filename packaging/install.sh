#!/bin/sh
# Installs npk, its man pages and completions below PREFIX (default: ~/.local).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-${1:-$HOME/.local}}
mkdir -p "$prefix/bin" "$prefix/share"
# Under another name first: a running npk is not disturbed.
cp "$here/bin/npk" "$prefix/bin/.npk-new"
mv "$prefix/bin/.npk-new" "$prefix/bin/npk"
cp -R "$here/share/." "$prefix/share/"
"$prefix/bin/npk" --version
case ":$PATH:" in
    *":$prefix/bin:"*) ;;
    *) echo "note: $prefix/bin is not on PATH" ;;
esac
