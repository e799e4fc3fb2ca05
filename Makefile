# Each target creates .venv when there is none. PYTHON picks the interpreter of a new one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 300
# Tests run in this many processes; each takes whole stretches, so that what a module prepares is prepared once.
TEST_WORKERS ?= 2
PARALLEL := -n $(TEST_WORKERS) --dist worksteal
DEMO_SECONDS ?= 120

.PHONY: api site results bench-models bench-calibration bench-what-if fuzz bench-pack-speed demo test test-slow check nojit golden sizes bench bench-code bench-codec bench-codec-speed bench-range-coder bench-pack bench-low-rates bench-whole bench-train bench-gpu-train bench-prove bench-scoring bench-tiny clean
.DEFAULT_GOAL := test

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## train, pack, account and score a small model on the CPU
	$(BIN)/squeeze demo --seconds $(DEMO_SECONDS)

test: $(VENV)/.installed  ## the tests that CI runs
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: $(VENV)/.installed  ## the tests that take longer
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.installed  ## lint, types (on the built wheel), fast tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python tests/check_types.py
	$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL)

fuzz: $(VENV)/.installed  ## damaged files into every reader; FUZZ_SECONDS for all together, JSON on stdout
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

nojit: $(VENV)/.installed  ## the codec tests with the compiled kernels run as plain Python
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -m "not slow" tests/codecs

golden: $(VENV)/.installed  ## rewrite the golden files; only with a format version bump
	$(BIN)/python -m tests.make_golden

sizes: $(VENV)/.installed  ## rewrite benchmarks/sizes.csv after a change of sizes that was meant
	$(BIN)/python benchmarks/sizes.py --write

$(VENV)/.bench: $(VENV)/.installed benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	touch $@

bench: bench-code bench-codec bench-codec-speed bench-range-coder bench-pack bench-pack-speed bench-train bench-tiny bench-scoring bench-prove bench-models bench-calibration bench-what-if bench-gpu-train  ## all; hours; results go to benchmarks/results/
	$(MAKE) results

bench-code: $(VENV)/.installed  ## bytes of shipped code against the usual wrappers of the same source
	$(BIN)/python benchmarks/code_size.py

bench-codec: $(VENV)/.bench  ## bytes at equal error against other coders (zpaq, lrzip: Debian packages)
	$(BIN)/python benchmarks/codec.py

bench-codec-speed: $(VENV)/.bench  ## 36M weights: search, encode, decode, memory
	$(BIN)/python benchmarks/speed.py

api: $(VENV)/.installed  ## docs/api.md from the docstrings of what `import squeeze` offers
	$(BIN)/python docs/write_api.py

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

site: $(VENV)/.docs  ## the documentation as a site, its links checked: build/site
	$(BIN)/python docs/make_site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

results: $(VENV)/.installed  ## docs/results.md and README's tables from benchmarks/results/
	$(BIN)/python benchmarks/front_page.py

bench-models: $(VENV)/.installed  ## bytes and scores of whole models, three calibration seeds (forty minutes)
	$(BIN)/python benchmarks/models.py

bench-what-if: $(VENV)/.installed  ## bytes and costs foreseen from a plan against real packs
	$(BIN)/python benchmarks/what_if.py

bench-calibration: $(VENV)/.installed  ## CPU time of calibration text and Hessians
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/hessians.py

bench-pack-speed: $(VENV)/.installed  ## 36M weights to a byte target: stage times, memory
	$(BIN)/python benchmarks/pack_speed.py --preset fast
	$(BIN)/python benchmarks/pack_speed.py --preset best

bench-range-coder: $(VENV)/.bench  ## the range coder alone: overhead and symbols a second
	$(BIN)/python benchmarks/range_coder.py

bench-pack: $(VENV)/.bench  ## loss and KL at the bytes of record recipes (two hours on one core)
	$(BIN)/python benchmarks/pack_quality.py
	$(BIN)/python benchmarks/quantizer_order.py

bench-low-rates: $(VENV)/.installed  ## best and tuned at 2.55, 1.78 and 1.27 bits a weight (a day on one core)
	$(BIN)/python benchmarks/low_rates.py --source shards --name low-rates-tuned

bench-whole: $(VENV)/.installed  ## from text to a scored file against the baseline, same CPU time and bytes (a day on two cores)
	$(BIN)/python benchmarks/whole.py

bench-train: $(VENV)/.installed  ## loss at equal steps against plain AdamW, on the CPU
	$(BIN)/python benchmarks/train.py

bench-gpu-train: $(VENV)/.installed  ## speed of a training step on the GPU; says so when there is none
	$(BIN)/python benchmarks/gpu_train.py

bench-prove: $(VENV)/.bench  ## text through a packed model and back: size, speed, damage
	$(BIN)/python benchmarks/prove.py

bench-scoring: $(VENV)/.installed  ## what scoring costs beyond the bare forward; sliding against the naive way
	$(BIN)/python benchmarks/scoring.py

bench-tiny: $(VENV)/.installed  ## the tiny preset: five minutes of training on a quiet CPU, then its score
	$(BIN)/python benchmarks/tiny.py

clean:
	rm -rf build dist *.egg-info demo out
	find codecs calib -name __pycache__ -exec rm -rf {} +
