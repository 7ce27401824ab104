# Two commands for a fresh clone with Python and make: `make serve` and `make test`.
#
#   make serve                                   on http://127.0.0.1:8000, data in store/
#   make serve GUNICORN_CMD_ARGS='--bind :9000'  with options for gunicorn
#   WSGI_STORE_HASH=sha256 make serve            with settings for the service
#   make test                                    everything: style, types, tests
#   make test ARGS='-x tests/test_digest.py'     some tests; ARGS goes to pytest
#   make races                                   very many cases: meetings at every call, kills, power cuts, requests
#   make test races coverage COUNT=1             count the lines that both run, which have to be enough
#   make clients                                 tests with foreign clients, browsers and servers
#   make pictures                                take the pictures of docs/page.md again, in Chromium
#   make docs                                    the documents as a site, in build/site
#   make soak                                    servers killed under load, uploads of 5 GiB cut, for 20 minutes
#   make lazyfs                                  power cuts on LazyFS, which has no package
#   make bench                                   measure this project and its peers
#   make bench ARGS=--quick                      the same, quickly
#   make bench-s3                                the same for a bucket, on a Ceph of its own
#   make PYTHON=python3.13 ...                   make .venv with this Python

# The first installed Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
# What tests run of npm: pinned, with a Node of its own.
MODULES := tests/node/node_modules
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
# Bugs in these files lose data. 99.9 % of their lines and branches were measured to be covered.
CORE := wsgi_store/store/*,wsgi_store/staging/*,wsgi_store/uploads/*,wsgi_store/web/download.py
TEST := $(RUN) -X dev -W error -m pytest
# Some containers set it, and each of the thousands of processes would compile the package again.
unexport PYTHONDONTWRITEBYTECODE
# -X dev would check each allocation for the mistakes of C, which this project has none of: a tenth of the time.
export PYTHONMALLOC := default
# More processes than processors, because many tests wait; each process takes one file at a time.
BESIDE := --numprocesses=4 --dist=loadfile --no-loadscope-reorder
# Hypothesis tries few cases in `make test`, and many here (tests/conftest.py).
MANY := -m '(races or hypothesis) and not alone and not clients' --hypothesis-profile=many
# Counting lines makes every process slower, so that only .ci/run does it. The required coverage is in
# pyproject.toml and is checked once, after all of them: `make coverage`.
ifdef COUNT
COUNTED := --cov --cov-report= --cov-fail-under=0
COUNTED_TOO := $(COUNTED) --cov-append
endif

.PHONY: serve test races coverage clients pictures docs soak lazyfs lint format bench bench-s3 clean
.PHONY: format-check pylint pylint-tests pylint-benchmarks mypy flake8
# An interrupted rule must not leave its target behind.
.DELETE_ON_ERROR:

serve: $(VENV)/.installed
	@echo 'make: the command is $(VENV)/bin/wsgi-store; to put it on the path: export PATH="$$PWD/$(VENV)/bin:$$PATH"'
	$(RUN) $(VENV)/bin/gunicorn -c deploy/gunicorn.conf.py

ifdef ARGS
test: $(VENV)/.installed-test
	$(TEST) $(ARGS)
else
test: $(VENV)/.installed-test lint
	$(TEST) -m 'not alone and not clients and not races' $(BESIDE) $(COUNTED)
	$(TEST) -m 'alone and not clients and not races' $(COUNTED_TOO)
endif

ifdef ARGS
races: $(VENV)/.installed-test
	$(TEST) $(MANY) $(COUNTED_TOO) $(ARGS)
else
# One test takes long, so each goes to the next free process.
races: $(VENV)/.installed-test
	$(TEST) $(MANY) --numprocesses=4 --dist=load $(COUNTED_TOO)
	$(TEST) -m 'races and alone' $(COUNTED_TOO)
endif

# What `make test` and `make races` have run with COUNT=1.
coverage: $(VENV)/.installed-test
	$(RUN) -m coverage report
	@$(RUN) -m coverage report --include='$(CORE)' --fail-under=99 --format=total >/dev/null \
	|| { $(RUN) -m coverage report --include='$(CORE)'; \
	echo 'make: the coverage of these files must be 99 % or more' >&2; exit 1; }

ifdef ARGS
clients: $(VENV)/.installed-clients $(MODULES)/.installed
	$(TEST) -m clients $(ARGS)
else
# Each of the programs that these tests start needs a processor.
clients: $(VENV)/.installed-clients $(MODULES)/.installed
	$(TEST) -m 'clients and not alone' --numprocesses=2 --dist=loadfile --no-loadscope-reorder
	$(TEST) -m 'clients and alone'
endif

pictures: $(VENV)/.installed-clients $(MODULES)/.installed
	PICTURES=1 $(TEST) tests/page/test_pictures.py

# -W makes failures of dead links and undocumented types.
docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx -W --keep-going --quiet docs build/site
	@echo 'make: the site begins at build/site/index.html'

# `make races` kills the servers only a few times, migrates a small store and uploads 256 MiB. CRASH_SEED and
# CUTS_SEED repeat a run.
soak: export CRASH_KILLS ?= 200
soak: export MIGRATION_BLOBS ?= 10000
soak: export UPLOAD_MIB ?= 5120
soak: $(VENV)/.installed-clients $(MODULES)/.installed
	$(TEST) --capture=no --verbose --timeout=3600 tests/servers/test_crash.py tests/servers/test_migration.py
	$(TEST) --capture=no --verbose --timeout=3600 tests/uploads/test_ten_cuts.py
	$(RUN) -m tests.support.siege
	$(RUN) -m tests.support.siege --nginx bodies reads both

# `make races` cuts the power of ext4 and xfs, and of LazyFS only where it finds it.
lazyfs: $(VENV)/.installed-test
	@command -v lazyfs >/dev/null || { echo 'make: lazyfs is not on the path:' \
	'build it from https://github.com/dsrhaslab/lazyfs' >&2; exit 1; }
	$(TEST) -k lazyfs tests/store/disk/test_power_cuts.py

# Two at once, because each uses one processor; the longest one first.
lint: $(VENV)/.installed-test
	@$(MAKE) --jobs=2 --output-sync --no-print-directory pylint-tests pylint pylint-benchmarks mypy flake8 format-check

format-check:
	$(RUN) -m ruff format --check .

flake8:
	$(RUN) -m flake8

pylint:
	$(RUN) -m pylint wsgi_store examples/*.py deploy/gunicorn.conf.py

pylint-tests:
	$(RUN) -m pylint tests

pylint-benchmarks:
	$(RUN) -m pylint --disable=import-error benchmarks

mypy:
	$(RUN) -m mypy

format: $(VENV)/.installed-test
	$(RUN) -m ruff format .

bench: $(VENV)/.installed-bench
	$(RUN) -m benchmarks $(ARGS)

bench-s3: $(VENV)/.installed-bench
	$(RUN) -m benchmarks.bucket $(ARGS)

# If the Python of the environment is gone, everything must be installed again.
$(shell test -x $(RUN) || rm -f $(VENV)/.installed*)

$(RUN):
	@test -n '$(PYTHON)' || { echo 'make: no Python 3.11 or newer found:' \
	'install one, or pass its path: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'make: $(PYTHON) is' \
	'not Python 3.11 or newer: pass another: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'make: $(PYTHON) lacks the module' \
	'venv: install it (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: pyproject.toml $(RUN)
	$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(RUN)
	$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-clients: pyproject.toml $(RUN)
	$(PIP) install --editable '.[test,clients]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml $(RUN)
	$(PIP) install --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml $(RUN)
	$(PIP) install --editable '.[bench]'
	@touch $@ $(VENV)/.installed

# Tests that need it are skipped where there is no npm, as those of any missing program.
$(MODULES)/.installed: tests/node/package-lock.json
	@! command -v npm >/dev/null \
	|| { npm ci --prefix=tests/node --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; }

clean:
	rm -rf $(MODULES) $(VENV) build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
