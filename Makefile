# `make install` builds and installs npk and converts a shipped file; `make test` makes the environment of the real
# libraries (numpy, h5py, pyarrow …) and runs every test against them. `make check` is what CI runs.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
TOOLS := .tools
TORCH_PYTHON ?= /usr/bin/python3
export PATH := $(CURDIR)/$(TOOLS)/bin:$(PATH)

.PHONY: install test check tools judges module format lint docs generated bench bench-library faults memory big dist dist-test clean

install: tools
	$(CARGO) install --locked --path .
	rm -rf target/example.npk
	npk convert fixtures/good/safetensors/mixed.safetensors target/example.npk
	npk inspect target/example.npk

# The HDF5 library is built from source and needs CMake 3.26 or later, which many systems do not have yet.
tools: $(TOOLS)/bin/cmake
$(TOOLS)/bin/cmake:
	@if command -v cmake >/dev/null && cmake --version | awk 'NR == 1 { split($$3, v, "."); exit !(v[1] > 3 || v[1] == 3 && v[2] >= 26) }'; then \
		mkdir -p $(TOOLS)/bin && ln -sf "$$(command -v cmake)" $(TOOLS)/bin/cmake; \
	else \
		$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install -q --disable-pip-version-check cmake; \
	fi

judges: $(VENV)/made
$(VENV)/made: tests/judges/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r tests/judges/requirements.txt
	mkdir -p $(VENV)/numpack07
	$(VENV)/bin/pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
		--platform manylinux_2_38_x86_64 --python-version 3.11 -d $(VENV)/numpack07 numpack==0.7.0
	$(VENV)/bin/python -m zipfile -e $(VENV)/numpack07/numpack-0.7.0-*.whl $(VENV)/numpack07
	touch $@

# A browser and axe-core look at the pages that npk writes (Debian: chromium, npm).
AXE := $(VENV)/axe/node_modules/axe-core/axe.min.js
$(AXE): $(VENV)/made
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(VENV)/axe axe-core@4.14.1; fi

# Debian's torch goes with an older numpy than pyarrow does today.
ARROW17 := $(VENV)/arrow17/pyarrow/__init__.py
$(ARROW17): $(VENV)/made
	@if [ -x "$(TORCH_PYTHON)" ]; then \
		$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps --only-binary=:all: --upgrade --target $(VENV)/arrow17 \
			--python-version "$$($(TORCH_PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')" pyarrow==17.0.0 || \
		echo "note: no pyarrow 17 for $(TORCH_PYTHON): what needs torch and pyarrow together is left out"; \
	fi

# NumPack 0.7.0 as a judge: its crate, built apart and once. It needs OpenBLAS (Debian: libopenblas-dev, pkg-config).
NUMPACK07 := target/numpack07/debug/numpack07
$(NUMPACK07): tests/judges/numpack07/Cargo.toml tests/judges/numpack07/src/main.rs
	@if pkg-config --exists openblas 2>/dev/null; then \
		$(CARGO) build --locked --manifest-path tests/judges/numpack07/Cargo.toml --target-dir target/numpack07; \
	fi

# The Python module. Its tests build it themselves where it is stale; what the library's own build has made is used again.
module: tools
	$(CARGO) build --locked --manifest-path python/Cargo.toml --target-dir target

test: tools judges $(NUMPACK07) $(AXE) $(ARROW17) module
	@without=""; \
	if ! [ -x "$(TORCH_PYTHON)" ] || ! "$(TORCH_PYTHON)" -c 'import torch' 2>/dev/null; then \
		echo "note: $(TORCH_PYTHON) has no torch: the tests that ask it are left out (Debian: apt-get install python3-torch)"; \
		without="$$without NPK_TEST_NO_TORCH=1"; \
	fi; \
	if ! [ -x $(NUMPACK07) ]; then \
		echo "note: no OpenBLAS: the tests that ask NumPack 0.7.0 are left out (Debian: apt-get install libopenblas-dev pkg-config)"; \
		without="$$without NPK_TEST_NO_NUMPACK07=1"; \
	fi; \
	if ! command -v chromium >/dev/null || ! [ -e $(AXE) ]; then \
		echo "note: no Chromium, or no axe-core: the test that opens pages is left out (Debian: apt-get install chromium npm)"; \
		without="$$without NPK_TEST_NO_CHROMIUM=1"; \
	fi; \
	echo "== Rust alone" && env NPK_TEST_PYTHON=/nonexistent $(CARGO) test --locked && \
	echo "== the real libraries" && env $$without $(CARGO) test --locked --test main -- --ignored --skip at_every_operation

check: format lint docs test

format:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path python/Cargo.toml

lint: tools
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --manifest-path python/Cargo.toml --target-dir target --all-targets -- -D warnings
	$(CARGO) check --locked --no-default-features
	$(CARGO) check --locked --no-default-features --features parquet,remote

docs: tools
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --locked --no-deps --lib

# Completions, man pages and README's format table, made anew; a test fails when they are stale.
generated: tools
	$(CARGO) test --locked --no-run
	target/debug/npk generate .

# docs/performance.md and its chart, measured anew.
bench: tools judges
	$(CARGO) build --locked --release
	$(VENV)/bin/python benches/run.py --json target/bench.json
	$(VENV)/bin/python benches/page.py target/bench.json

# The library's calls, from Python and from Rust.
bench-library: tools judges
	$(CARGO) build --locked --release --manifest-path python/Cargo.toml --target-dir target --lib --example store
	$(VENV)/bin/python benches/library.py --json target/bench-library.json

# What docs/reliability.md promises: every operation on files fails once; memory at ten times the limit; past 4 GiB.
faults: tools
	$(CARGO) test --locked --test main -- --ignored --nocapture new_one_at_every_operation

memory: tools judges
	$(CARGO) build --locked --release
	$(VENV)/bin/python tests/judges/memory.py

big: tools judges
	$(CARGO) build --locked --release
	$(VENV)/bin/python tests/judges/big.py

# What is released: two wheels, a Debian package and a tarball, in target/dist.
dist: tools
	PYTHON=$(PYTHON) packaging/dist $(DIST_TARGET)

# Tries them in a fresh virtual environment and in an old Debian (as root, with debootstrap).
dist-test:
	PYTHON=$(PYTHON) packaging/dist-test $(DIST_TARGET)

clean:
	$(CARGO) clean
	rm -rf $(VENV) $(TOOLS)
