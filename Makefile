# `make` alone lists the targets. The logic is in scripts/.
export PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: help run test bench prove fuzz mutants build size newman browser contract examples verify-deploy secrets client image migrate down clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: ## Install what is missing and serve on 127.0.0.1:3000 (PORT=..., RUNTIME=spin or bundled)
	@scripts/run.sh

test: ## Run all checks and tests: format, clippy, deploy/, unit to browser (POSTGRES=17, VALKEY=9 choose servers)
	@scripts/test.sh

prove: ## Run the long proof (interleavings, crash points, failovers, storms) and print its figures
	@scripts/prove.sh
bench: ## Measure the service, its peers and its stores (ARGS="--help" lists the options)
	@scripts/bench.sh $(ARGS)

build: ## Build the component and the bundled host
	@RUNTIME=bundled scripts/runtime.sh build

size: ## Print the size of the component; fail above 748 KiB
	@scripts/size.sh

newman: ## Run the Postman collection against a local service
	@scripts/newman.sh

browser: ## Test the pages in headless Chromium; pictures in target/browser/
	@scripts/browser.sh

contract: ## Lint docs/openapi.yaml; test the service against it with a typed client and schemathesis
	@scripts/contract.sh

examples: ## Test examples/
	@scripts/examples.sh

fuzz: ## Fuzz the parsers of untrusted bytes, 60 s per target (or FUZZ_SECONDS=...)
	@scripts/fuzz.sh $(FUZZ_SECONDS)

mutants: ## Break the code on purpose, one mutant at a time, and check that a test fails
	@scripts/mutants.sh

verify-deploy: ## Check what deploy/ installs, without a cluster
	@scripts/verify-deploy.sh

secrets: ## Write the cluster's passwords to deploy/secrets/secrets.env, once
	@scripts/secrets.sh

client: ## Create a token for a client of the service: make client NAME=web
	@scripts/client.sh "$(NAME)"

image: ## Build the component and push it: make image IMAGE=registry/name:tag (MANIFEST=intake/spin.toml for the intake)
	@scripts/image.sh

migrate: ## Start Redis and PostgreSQL and apply the migrations
	@scripts/services.sh migrate

down: ## Stop Redis and PostgreSQL; keep their data
	@scripts/services.sh down

clean: ## Stop them; delete their data and all build output
	@scripts/services.sh clean
	cargo clean
	rm -rf fuzz/target fuzz/corpus fuzz/artifacts
	rm -rf node_modules
