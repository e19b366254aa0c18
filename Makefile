# SPDX-License-Identifier: MIT
# A menu in front of Meson: `make help` shows it. Every build lives in build/ or build-NAME/.
BUILD = build
JOBS = $(shell nproc)
PREFIX = /usr/local
DESTDIR =
T =

NINJA = ninja -j$(JOBS)
SETUP = meson setup --wipe
QUICK = $(BUILD)/tests/run tests/tidy tests/summary tests/header tests/exports tests/man \
    tests/readme tests/consumer/run tests/musl/run

all: $(BUILD)/build.ninja ## build the library and the command (build/ouro)
	@$(NINJA) -C $(BUILD)

help: ## this menu
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

$(BUILD)/build.ninja:
	@scripts/install-deps build
	@meson setup $(BUILD) --prefix=$(PREFIX)

deps: ## install what building, testing and linting need (Debian, Ubuntu; as root)
	@scripts/install-deps build check lint valgrind cover

demo: ## the main job on real files: every contender side by side, and an HTML report
	@scripts/install-deps build
	@$(MAKE) --no-print-directory all
	@scripts/demo $(BUILD)

check: ## all quick tests, under 10 minutes
	@scripts/install-deps build check
	@$(MAKE) --no-print-directory all
	@$(NINJA) -C $(BUILD) tests
	@scripts/run-tests $(BUILD) $(QUICK)

test: $(BUILD)/build.ninja ## some tests of the suite: make test T=uring/cancel
	@$(NINJA) -C $(BUILD) tests
	@$(BUILD)/tests/run $(T)

lint: ## formatting, static analysis, -Werror builds, tidy: 0 findings
	@scripts/install-deps build check lint
	@scripts/lint

install: all ## install under PREFIX (and DESTDIR)
	@meson configure $(BUILD) --prefix=$(PREFIX)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD)

ci: ## what CI runs
	@.ci/run

clean: ## remove every build directory
	rm -rf build build-*

.PHONY: all help deps demo check test lint install ci clean
