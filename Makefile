# Everything a user or developer types. Each target sets up what it needs; nothing else has to be installed but
# Python 3.11 or newer.

PYTHON ?= python3
SECONDS ?= 0
DATA ?= data
DEVICES ?= 44
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
STORES := $(VENV)-stores
AZURITE := $(STORES)/node_modules/.bin/azurite-blob
FAKE_GCS := $(STORES)/bin/fake-gcs-server
DEV := $(VENV)/.ready-dev
BENCH := $(VENV)/.ready-bench
UI_VENDOR := $(VENV)-ui-vendor
RELEASE := $(VENV)-release
CONSUMERS := $(VENV)-consumers
DBT := $(VENV)-dbt
SITE := $(VENV)-docs
APICURIO := https://repo.maven.apache.org/maven2/io/apicurio/apicurio-registry-app/2.6.13.Final/apicurio-registry-app-2.6.13.Final-all.tar.gz
RUNS ?= 3
SAMPLE ?= 300
SEED ?= 11
ONLY ?=
WORKERS ?= 3
READINGS ?= 10000000
INPUTS ?= 10000000
LAKE ?=
MINUTES ?= 5
MESSAGES ?= 150
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q --upgrade

.PHONY: demo test mutants fuzz chaos sink-chaos lake-readers memory alarms-day stores-test browser-test ui-vendor bench bench-plots check format consumers-test dbt-test docs contract contract-check contract-release lock release-check dist sbom audit setup clean help

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY) ## Run the whole pipeline against simulated vendors (SECONDS=60 DATA=dir DEVICES=44)
	@exec $(BIN)/fleetlake demo --seconds $(SECONDS) --devices $(DEVICES) --data "$(DATA)"

test: $(DEV) ## Pass the tests (WORKERS=3: more than cores, since many tests wait)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

mutants: $(DEV) ## Mutate the pure modules: do their tests notice? (SAMPLE=300 SEED=11 MINUTES=60 ONLY=streams.detect)
	@$(BIN)/python -m tests.mutants --sample $(SAMPLE) --seed $(SEED) --minutes $(if $(filter file,$(origin MINUTES)),60,$(MINUTES)) $(if $(ONLY),--only $(ONLY))

fuzz: $(DEV) ## Hostile messages into every entrance (INPUTS=10000000 MINUTES=5 SEED=11)
	@$(BIN)/python -m tests.fuzz --inputs $(INPUTS) --minutes $(MINUTES) --seed $(SEED)

chaos: $(DEV) ## Kill every process of a running pipeline in turn, then count
	@$(BIN)/python -m pytest -m chaos

alarms-day: $(DEV) ## A scripted day of 200 devices under kills: do the alarms equal the truth? (some minutes)
	@$(BIN)/python -m pytest -m alarms_day

sink-chaos: $(DEV) ## Kill Delta sinks fifty times, then audit the lake against Kafka
	@$(BIN)/python -m pytest -m chaos tests/sinks

lake-readers: $(DEV) ## Ten processes read while sinks write, merge and delete: no error, no wrong count (MINUTES=5)
	@$(BIN)/python -m tests.load.readers $(MINUTES)

memory: $(DEV) ## What each process holds while the next one is away, under messages of 7 MB (MESSAGES=150; needs Mosquitto)
	@$(BIN)/python -m tests.load.memory $(MESSAGES)

stores-test: $(DEV) ## Test the lake in S3, Azure and Google storage, on emulators (npm for Azure's, go for Google's)
	@test -x $(STORES)/bin/moto_server || { $(PYTHON) -m venv $(STORES) && $(STORES)/bin/python -m pip install --quiet --disable-pip-version-check "moto[s3,server]>=5.2,<6"; }
	@test -x $(AZURITE) || ! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --prefix $(STORES) azurite@3
	@test -x $(FAKE_GCS) || ! command -v go >/dev/null || GOBIN=$(abspath $(STORES))/bin go install github.com/fsouza/fake-gcs-server@v1.56.1
	@export FLEETLAKE_S3_SERVER=$(STORES)/bin/moto_server; \
	test ! -x $(AZURITE) || export FLEETLAKE_AZURE_SERVER=$(AZURITE); test ! -x $(FAKE_GCS) || export FLEETLAKE_GCS_SERVER=$(FAKE_GCS); \
	$(BIN)/python -m pytest -m stores -rs tests/sinks

browser-test: $(DEV) ## Test the live page in Chromium (Debian: apt-get install chromium)
	@$(BIN)/python -m pytest -m browser tests/ui

ui-vendor: ## Fetch the libraries of the live page anew from npm, in the versions named in the Makefile
	@rm -rf $(UI_VENDOR) && mkdir -p $(UI_VENDOR)
	npm install --silent --no-audit --no-fund --prefix $(UI_VENDOR) htm@3.1.1 preact@10.5.13 uplot@1.6.32 leaflet@1.9.4 axe-core@4.14.1
	@sh ui/vendor.sh $(UI_VENDOR)/node_modules

bench: $(BENCH) ## Measure fleetlake and its peers (ONLY=normalise for one part, RUNS=3, READINGS=10000000)
	@$(BIN)/python -m bench --runs $(RUNS) --readings $(READINGS) $(if $(LAKE),--lake "$(LAKE)") $(if $(ONLY),--only $(ONLY))

bench-plots: $(BENCH) ## Draw the plots of docs/performance.md from bench/results.json
	@$(BIN)/python -m bench.plots

check: $(DEV) ## Format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

contract: $(DEV) ## Write the JSON Schemas and the AsyncAPI document anew
	$(BIN)/python -m schemas.contract

release-check: $(RELEASE)/.ready ## Would a release work? Metadata, links, and the demo from the wheel in an empty environment
	@$(RELEASE)/bin/python -m release.check $(filter-out 0,$(SECONDS))

dist: $(RELEASE)/.ready ## Make the files of a release in dist/: source, wheel, lock file, bill of materials
	@rm -rf dist && $(RELEASE)/bin/python -m build --no-isolation . >/dev/null && cp requirements.lock dist/
	@$(RELEASE)/bin/python -m release.sbom dist/sbom.json && ls -sh dist

sbom: $(RELEASE)/.ready ## Write the bill of materials, sbom.json (CycloneDX): Python packages, Kafka's jars, the page's libraries
	@$(RELEASE)/bin/python -m release.sbom sbom.json

audit: $(RELEASE)/.ready ## Ask PyPI's advisories for known holes in the locked packages (needs the internet)
	@$(RELEASE)/bin/pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip

consumers-test: $(DEV) ## Consumers in Go and Python that are written from the contract, and a schema registry (needs go)
	@test -x $(CONSUMERS)/bin/python || { $(PYTHON) -m venv $(CONSUMERS) && $(CONSUMERS)/bin/python -m pip install --quiet --disable-pip-version-check "confluent-kafka>=2.16,<3"; }
	@test -d $(CONSUMERS)/apicurio || { mkdir $(CONSUMERS)/apicurio.new && curl -fsSL $(APICURIO) | tar xz -C $(CONSUMERS)/apicurio.new && mv $(CONSUMERS)/apicurio.new $(CONSUMERS)/apicurio; }
	@FLEETLAKE_CONFLUENT=$(abspath $(CONSUMERS))/bin/python FLEETLAKE_APICURIO=$(abspath $(CONSUMERS))/apicurio $(BIN)/python -m pytest -m consumers tests/consumers

docs: $(DEV) ## The documentation as a site that needs no server and no network: build/site/index.html (needs npm)
	@test -x $(SITE)/bin/mkdocs || { $(PYTHON) -m venv $(SITE) && $(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: "mkdocs-material>=9.7,<10"; }
	@test -d $(SITE)/node_modules/mermaid || npm install --silent --no-audit --no-fund --prefix $(SITE) iframe-worker@1 mermaid@11
	@$(BIN)/python -m docsite.collect build/docs
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet --strict -f docsite/mkdocs.yml
	@$(BIN)/python -m docsite.local build/site $(SITE)/node_modules
	@echo "build/site/index.html"

dbt-test: $(DEV) ## The dbt project of docs/examples/dbt on fleet.duckdb
	@test -x $(DBT)/bin/dbt || { $(PYTHON) -m venv $(DBT) && $(DBT)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: "dbt-duckdb>=1.11,<2"; }
	@FLEETLAKE_DBT=$(abspath $(DBT))/bin/dbt $(BIN)/python -m pytest -m dbt tests/queries

contract-check: $(DEV) ## Does the contract break those who follow the last release?
	@$(BIN)/python -m schemas.contract check

contract-release: $(DEV) ## Make the contract the last released one (when a version is released)
	@$(BIN)/python -m schemas.contract release

lock: ## Resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --group build $(LOCK) -o requirements.lock
	uv pip compile --group pyproject.toml:dev $(LOCK) -c requirements.lock -o requirements-dev.lock
	uv pip compile --group pyproject.toml:bench $(LOCK) -c requirements.lock -o requirements-bench.lock
	uv pip compile --group pyproject.toml:release $(LOCK) -c requirements.lock -o requirements-release.lock

# pip says a line per package; here they are counted. A pipe hides pip's status, hence the file.
define install
rm -f $(VENV)/.failed; \
{ $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r $(1) || touch $(VENV)/.failed; } \
| awk -v all=$$(grep -c '==' $(1)) '/^(Collecting|Requirement already)/ { n++; if (n % 10 == 0 || n == all) { print "  " n " of " all " packages"; fflush() } } /^Installing/ { print "  installing them …"; fflush() }'; \
test ! -e $(VENV)/.failed
endef

setup: $(READY) ## Make the virtual environment

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fleetlake needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "Setting up $(VENV) (once; a few minutes at most) …"
	@$(PYTHON) -m venv $(VENV)
	@$(call install,requirements.lock)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

$(DEV): $(READY) requirements-dev.lock
	@$(call install,requirements-dev.lock)
	@touch $(DEV)

$(BENCH): $(READY) requirements-bench.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $(BENCH)

$(RELEASE)/.ready: requirements-release.lock
	@$(PYTHON) -m venv $(RELEASE)
	@$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-release.lock
	@touch $@

clean: ## Remove the virtual environment and caches (data stays)
	rm -rf build $(VENV) $(STORES) $(CONSUMERS) $(DBT) $(SITE) $(UI_VENDOR) $(RELEASE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
