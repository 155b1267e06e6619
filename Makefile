# Every target is a command of bootstrap.py, which works without make, too.
#   make lab · make test · make notebooks LESSON=03 · make lab ARGS="--no-browser --port 8889"

TARGETS := lab setup test test-fast test-everywhere soak notebooks reset experiments bench gpu pretrain full clean
PYTHON := $(shell command -v python3 || command -v python)

.DEFAULT_GOAL := help
.PHONY: help $(TARGETS)

help $(TARGETS):
ifeq ($(PYTHON),)
	@echo "every-pixel: neither python3 nor python is on PATH; install Python 3.11 or newer" >&2
	@exit 1
else
	@"$(PYTHON)" bootstrap.py $@ $(if $(LESSON),LESSON=$(LESSON)) $(ARGS)
endif
