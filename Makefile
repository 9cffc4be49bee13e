# make demo [PHOTOS=folder]   see pixseek work, on a sample collection or on your own pictures
# make test                   the tests; make test-all adds the slow ones and those that need root
# make lint                   format check, lint, types
# make bench                  pixseek beside its peers, into docs/benchmarks.md; half an hour, 16 GB in .bench/
#   [QUICK=1]                 small sizes, some minutes, no page   [FRESH=1]  measure again what was measured
#   [PARTS="cold warm"]       of: prepare indexing cold warm upkeep builtin warm10m page   [PHOTOS=folder]
#
# Paths below are relative, so that the checkout may lie in a folder with spaces in its name.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench clean

PIXSEEK := .venv/bin/pixseek
PHOTOS ?=
export PHOTOS

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^Paths below/,$$d'

# The first Python that runs and is new enough; PYTHON=... chooses another.
.venv/bin/python:
	@for candidate in $${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi
	done
	if [ -z "$${found:-}" ]; then
	  echo "pixseek needs Python 3.11 or later, found: $$(python3 --version 2>&1 || true). Install it, or say which: make PYTHON=/path/to/python3.11" >&2
	  exit 1
	fi
	if ! "$$found" -c 'import ensurepip' 2>/dev/null; then
	  echo "$$found cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv" >&2
	  exit 1
	fi
	echo "making .venv with $$("$$found" --version)"
	"$$found" -m venv .venv

# Installed again only when pyproject.toml changes.
.venv/core.stamp: pyproject.toml | .venv/bin/python
	@echo "installing pixseek into .venv (the first time takes a minute or two)"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/test.stamp: pyproject.toml | .venv/bin/python
	@echo "installing pixseek, torch and the test tools into .venv (the first time takes some minutes)"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[clip,train,test]'
	touch $@ .venv/core.stamp

demo: .venv/core.stamp
	@say() { printf '\n\033[1m$$ %s\033[0m\n' "$$*"; }
	[ -t 1 ] || say() { printf '\n$$ %s\n' "$$*"; }
	photos=$${PHOTOS:-}
	case "$$photos" in "~") photos=$$HOME;; "~/"*) photos=$$HOME/$${photos#"~/"};; esac
	if [ -z "$$photos" ]; then
	  photos=data/sample index=.demo-index/sample
	  if [ ! -e "$$photos/.complete" ]; then
	    echo "drawing a sample collection into $$photos"
	    rm -rf "$$photos"
	    .venv/bin/python data/draw_samples.py "$$photos" --count 60 --seed 0
	    touch "$$photos/.complete"
	  fi
	  queries=("a sailing boat on the sea" "a palm tree on a beach" "mountains" "a clock")
	else
	  [ -d "$$photos" ] || { echo "PHOTOS: no such folder: $$photos" >&2; exit 2; }
	  index=.demo-index/$$(cd -- "$$photos" && pwd -P | cksum | cut -d ' ' -f 1)
	  queries=("a dog" "people outdoors" "the sea" "food on a table")
	fi
	export PIXSEEK_INDEX=$$index
	say "pixseek index '$$photos' --encoder builtin"
	code=0; $(PIXSEEK) index "$$photos" --encoder builtin || code=$$?
	if [ "$$code" -eq 12 ]; then
	  echo "the built-in encoder is a newer one: making the demo index anew"
	  rm -rf -- "$$index"
	  code=0; $(PIXSEEK) index "$$photos" --encoder builtin || code=$$?
	fi
	[ "$$code" -eq 0 ] || [ "$$code" -eq 3 ] || exit "$$code"  # 3: some files could not be read
	for query in "$${queries[@]}"; do
	  say "pixseek search '$$query' -k 5"
	  $(PIXSEEK) search "$$query" -k 5
	done
	IFS= read -r -d '' best < <($(PIXSEEK) search "$${queries[0]}" -k 1 -0) || { echo "no picture there to look for"; exit 0; }
	say "pixseek similar '$$best' -k 5"
	$(PIXSEEK) similar "$$best" -k 5
	printf '\nYour turn: PIXSEEK_INDEX=%q %s search "..."\n' "$$index" "$(PIXSEEK)"

test: .venv/test.stamp
	.venv/bin/python -m pytest

test-all: .venv/test.stamp
	.venv/bin/python -m pytest -m ''

lint: .venv/test.stamp
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: .venv/test.stamp
	.venv/bin/python -m tests.benchmarks.suite $(if $(QUICK),--quick) $(if $(FRESH),--fresh) $(PARTS)

clean:
	rm -rf .demo-index data/sample build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
