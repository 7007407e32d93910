.PHONY: help setup format check test demo docs

help: ## what each target does
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

setup: ## make .venv from poetry.lock; seconds when nothing changed
	@bash scripts/bootstrap.sh

format: setup ## write the code in the project's format and mend what ruff can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

check: setup ## format, lint and types, without tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

test: ## everything that has to pass: check and tests
	@bash scripts/test.sh

demo: ## train, evaluate and probe on a real language model, without a GPU
	@bash scripts/demo.sh

docs: ## the documents as a site, in site/
	@bash scripts/docs.sh
