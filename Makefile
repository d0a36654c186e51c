# `make install` builds and installs npk and converts a shipped file; `make test` makes the environment of the real
# libraries (numpy, h5py, pyarrow …) and runs every test against them. `make check` is what CI runs.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
TOOLS := .tools
TORCH_PYTHON ?= /usr/bin/python3
export PATH := $(CURDIR)/$(TOOLS)/bin:$(PATH)

.PHONY: install test check tools judges format lint docs generated bench clean

install: tools
	$(CARGO) install --locked --path .
	rm -rf target/example.npk
	npk convert fixtures/good/safetensors/mixed.safetensors target/example.npk
	npk inspect target/example.npk

# The HDF5 library is built from source and needs CMake 3.26 or later, which many systems do not have yet.
tools: $(TOOLS)/bin/cmake
$(TOOLS)/bin/cmake:
	@if cmake --version 2>/dev/null | awk 'NR == 1 { split($$3, v, "."); exit !(v[1] > 3 || v[1] == 3 && v[2] >= 26) }'; then \
		mkdir -p $(TOOLS)/bin && ln -sf "$$(command -v cmake)" $(TOOLS)/bin/cmake; \
	else \
		$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install -q --disable-pip-version-check cmake; \
	fi

judges: $(VENV)/made
$(VENV)/made: tests/judges/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r tests/judges/requirements.txt
	touch $@

test: tools judges
	@if [ -x "$(TORCH_PYTHON)" ] && "$(TORCH_PYTHON)" -c 'import torch' 2>/dev/null; then \
		$(CARGO) test --locked; \
	else \
		echo "note: $(TORCH_PYTHON) has no torch: the tests that ask it are left out (Debian: apt-get install python3-torch)"; \
		NPK_TEST_NO_TORCH=1 $(CARGO) test --locked; \
	fi

check: format lint docs test generated

format:
	$(CARGO) fmt --check

lint: tools
	$(CARGO) clippy --locked --all-targets -- -D warnings

docs: tools
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib

# Completions, man pages and README's format table, made anew; git tells whether they were stale.
generated: tools
	$(CARGO) run --locked --quiet -- generate .

bench: tools judges
	$(CARGO) build --locked --release
	$(VENV)/bin/python benches/run.py

clean:
	$(CARGO) clean
	rm -rf $(VENV) $(TOOLS)
