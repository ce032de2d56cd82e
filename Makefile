# Sandpit: one non-recursive Makefile. All output goes to build/<BUILD>/.
# `make help` lists the targets.

BUILD ?= release
OUT ?= build/$(BUILD)
PREFIX ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
STATE ?= build/state
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)
SECONDS_EACH ?= 60

include build.mk

.DEFAULT_GOAL := all
.PHONY: all deps build run check check-vm bench fuzz format lint layers install uninstall clean help

all: build

build: $(OUT)/sandpit $(OUT)/envd

help:
	@echo 'make run        install packages, build, start "sandpit serve --dev" (state in build/state)'
	@echo 'make check      install what tests need, run every test; ends with "N passed, N failed"'
	@echo 'make check-vm   the engine, the server and its unit on cgroup v2, in a virtual machine'
	@echo 'make deps       install the Debian packages that building and running need (as root)'
	@echo 'make build      build $(OUT)/sandpit and $(OUT)/envd; BUILD=debug|release|asan|tsan|cov'
	@echo 'make bench      benchmark table: figure, ours, peer, ratio'
	@echo 'make fuzz       every fuzz target for SECONDS_EACH=60 s (clang, libFuzzer)'
	@echo 'make lint       banned functions, include layers, formatting'
	@echo 'make layers     include directions only'
	@echo 'make format     clang-format in place'
	@echo 'make install    into PREFIX=/usr/local, honouring DESTDIR; uninstall removes it'
	@echo 'make clean      remove build/'

deps:
	deploy/deps.sh run

run: deps
	$(MAKE) build
	exec $(OUT)/sandpit serve --dev --state-dir $(STATE)

check:
	tests/check.sh

check-vm:
	tests/vm/run.sh

bench:
	tests/bench/run.sh

format:
	clang-format -i $(FORMAT_FILES)

lint: layers
	tests/lint.sh

layers:
	tests/layers.sh

# Programs, the pages that the unit names, and the unit with PREFIX in it.
install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/sandpit
	install -d $(DESTDIR)$(PREFIX)/share/doc/sandpit $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -s -m 0755 $(OUT)/sandpit $(DESTDIR)$(PREFIX)/bin/sandpit
	install -m 0755 $(OUT)/envd $(DESTDIR)$(PREFIX)/libexec/sandpit/envd
	test ! -f $(OUT)/envd.debug || install -m 0644 $(OUT)/envd.debug $(DESTDIR)$(PREFIX)/libexec/sandpit/envd.debug
	install -m 0644 LICENSE README.md docs/*.md $(DESTDIR)$(PREFIX)/share/doc/sandpit
	sed 's,/usr/local/,$(PREFIX)/,g' deploy/systemd/sandpit.service \
	  > $(DESTDIR)$(PREFIX)/lib/systemd/system/sandpit.service

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/sandpit
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/libexec/sandpit/,envd envd.debug)
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/sandpit.service
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/sandpit
	-rmdir $(DESTDIR)$(PREFIX)/libexec/sandpit

clean:
	rm -rf build
