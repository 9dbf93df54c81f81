# `make` or `make help` lists the commands. Each sets up .venv/ itself when that is needed.
PYTHON ?= python3
TRPTS = .venv/bin/trpts
ifeq ($(OS),Windows_NT)
TRPTS = .venv/Scripts/trpts
endif
VENV_PYTHON = $(dir $(TRPTS))python
PYTEST = $(VENV_PYTHON) -m pytest --numprocesses logical --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help setup book student pdf test check refresh full status regress lab clean

help:     ## list the commands
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1 \t/' | expand -t 16

setup:    ## make .venv/ with the exact versions of constraints.txt
	@$(PYTHON) scripts/bootstrap.py

book: setup    ## run every chapter on the quick profile and build the HTML book
	@$(TRPTS) book

test: setup    ## run every test
	@$(PYTEST) --dist loadfile --no-loadscope-reorder

check: setup   ## run the tests that are quick: no chapter, page, browser or worker process
	@$(PYTEST) --part check tests

refresh: setup ## write the quick profile's outputs back into notebooks/
	@$(TRPTS) refresh

full: setup    ## run every chapter on the full profile: makes the records that the book shows
	@$(TRPTS) run --profile full

student: setup ## build the edition without solutions
	@$(TRPTS) student

pdf: setup     ## print the book as one PDF (needs Chromium)
	@$(TRPTS) pdf

status: setup  ## show which chapters and records are current
	@$(TRPTS) status

regress: setup ## hold the quick chapters' metrics against the committed baselines
	@$(TRPTS) regress

lab: setup     ## open the notebooks in JupyterLab
	@$(dir $(TRPTS))jupyter lab notebooks

clean:    ## remove build/, but for records that are not packed (never .venv/, never data/)
	rm -rf build/results/quick build/results/custom
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name results -exec rm -rf {} +
