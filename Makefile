# SPDX-License-Identifier: MIT
#
#   make                build/venvd, build/venvctl, build/venvd-worker       (V=1 shows the commands)
#   make quickstart     installs what is missing, builds, installs, creates a first environment
#   make install        DESTDIR= prefix=/usr/local;  make uninstall  takes it away again
#   make check          everything that is tested;  make lint, unit, e2e, bench  are parts of it
#   make conformance    what is created beside what python -m venv creates, for every interpreter here
#   make soak           a million calls, crowds, hostile clients, restarts under load
#   make races          directories and links change places at every path call of the workers
#   make fault          daemon and workers killed, and refused by the kernel, at every call that changes something; then make model
#   make fuzz           each target of tests/fuzz, RUNS=10000000 times; goes on where it was stopped (RESTART=1: from the start)
#   make model          random calls, changes by hand, restarts and kills, beside a model of what must be there
#   make powercut       as root: the power is cut under a daemon at work, on ext4, xfs and btrfs
#   make SANITIZE=1     the same programs with ASan and UBSan in build-san/

VERSION := $(shell cat VERSION 2>/dev/null || git describe --tags 2>/dev/null || echo 0.1.0)
BUILD ?= $(if $(FUZZ),build-san/fuzz,$(if $(SANITIZE),build-san,build))
prefix = /usr/local
bindir = $(prefix)/bin
libexecdir = $(prefix)/libexec/venvd
mandir = $(prefix)/share/man

MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
ifdef FUZZ
CC = clang
CFLAGS ?= -O2 -g
# Comparisons of numbers are not traced: a quarter of the time, for what the dictionaries say; those of texts are.
HARDENING = -U_FORTIFY_SOURCE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-coverage=trace-cmp \
	-fno-sanitize-recover=all -fno-omit-frame-pointer
else ifdef SANITIZE
CFLAGS ?= -O1 -g
HARDENING = -U_FORTIFY_SOURCE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else
CFLAGS ?= -O2 -g
HARDENING = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong \
	$(if $(filter x86_64% i%86%,$(MACHINE)),-fstack-clash-protection -fcf-protection)
endif
PACKAGES = libevent_core sqlite3 jansson libmd inih
PACKAGE_FLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
ALL_CPPFLAGS = -D_GNU_SOURCE -DVENVD_VERSION='"$(VERSION)"' -iquote proto -iquote $(BUILD)/gen $(PACKAGE_FLAGS) $(CPPFLAGS)
ALL_CFLAGS = -std=c11 $(WARNINGS) $(HARDENING) -fPIE -pthread $(CFLAGS)
ALL_LDFLAGS = $(HARDENING) -pie -pthread -Wl,-z,relro,-z,now,--as-needed $(LDFLAGS)

# The client starts once per prompt: a jansson of its own is one file less to map. Shared where there is no archive.
JANSSON_A := $(filter /%,$(shell $(CC) -print-file-name=libjansson.a 2>/dev/null))
venvd_LIBS = -levent_core -lsqlite3 -ljansson -linih
venvd-worker_LIBS = -ljansson -lmd
venvctl_LIBS = $(or $(JANSSON_A),-ljansson)

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(sort $(wildcard $(1))))
SOURCES := $(sort $(wildcard proto/*.c daemon/*.c daemon/worker/*.c client/*.c))
PROTO := $(call objects,proto/*.c)
PROGRAMS := $(BUILD)/venvd $(BUILD)/venvd-worker $(BUILD)/venvctl
GENERATED := $(patsubst proto/%,$(BUILD)/gen/%.inc,$(wildcard proto/*.varlink)) \
	$(patsubst schema/%,$(BUILD)/gen/%.inc,$(wildcard schema/*.sql))
UNIT := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
UNIT_ROOMS := $(call objects,daemon/environment.c daemon/index.c daemon/word.c daemon/stock.c daemon/store*.c \
	$(addprefix daemon/worker/,model.c moved.c pin.c pytext.c pyvenv.c record.c spec.c) tests/unit/stubs.c)
PAGES = daemon/venvd.8 daemon/venvd.conf.5 client/venvctl.1 proto/io.venvd.7

Q = $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $@)

all: $(PROGRAMS)

$(BUILD)/venvd: $(PROTO) $(call objects,daemon/*.c)
$(BUILD)/venvd-worker: $(PROTO) $(call objects,daemon/worker/*.c)
$(BUILD)/venvctl: $(PROTO) $(call objects,client/*.c)
$(PROGRAMS): $(BUILD)/sources
	$(call say,LINK)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $($(@F)_LIBS)

$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(PROTO) $(UNIT_ROOMS)
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lsqlite3 -ljansson -lmd -lcmocka

$(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(GENERATED) libraries
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(if $(findstring tests/,$<),-iquote daemon -iquote daemon/worker -iquote client) \
		-MMD -MP -c -o $@ $<

# A text becomes one C string literal a line.
LITERAL = mkdir -p $(@D) && \
	sed -e 's/[\\"?]/\\&/g' -e 's/^/"/' -e 's/$$/\\n"/' $< >$@.new && mv $@.new $@
$(BUILD)/gen/%.varlink.inc: proto/%.varlink
	$(Q)$(LITERAL)
$(BUILD)/gen/%.sql.inc: schema/%.sql
	$(Q)$(LITERAL)

# Changes only when a flag does, and then everything is compiled again.
FLAGS = $(subst ','\'',$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(venvctl_LIBS))
$(BUILD)/flags: always
	@mkdir -p $(@D); echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' >$@

# Changes when a source file comes or goes: a program is never what is left of a file that is gone.
$(BUILD)/sources: always
	@mkdir -p $(@D); echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' >$@

libraries:
	@CC='$(CC)' tools/libraries.sh $(PACKAGES)

install: all
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(libexecdir) $(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man5 \
		$(DESTDIR)$(mandir)/man7 $(DESTDIR)$(mandir)/man8
	install -m 755 $(BUILD)/venvd $(BUILD)/venvctl $(DESTDIR)$(bindir)/
	install -m 755 $(BUILD)/venvd-worker $(DESTDIR)$(libexecdir)/
	for page in $(PAGES); do install -m 644 $$page $(DESTDIR)$(mandir)/man$${page##*.}/ || exit 1; done

uninstall:
	@$(if $(DESTDIR),:,tools/stop-installed.sh '$(bindir)')
	rm -f $(DESTDIR)$(bindir)/venvd $(DESTDIR)$(bindir)/venvctl $(DESTDIR)$(libexecdir)/venvd-worker
	for page in $(PAGES); do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/}; done
	rmdir $(DESTDIR)$(libexecdir) 2>/dev/null || :
	@echo 'Every environment stays and goes on working.'

unit-programs: $(UNIT)
include tests/fuzz/rules.mk
generated: $(GENERATED)

fault:
	@BUILD='$(BUILD)' tools/fault.sh
	@BUILD='$(BUILD)' tools/model.sh

unit e2e bench conformance model powercut races soak lint check quickstart:
	@BUILD='$(BUILD)' tools/$@.sh

fuzz:
	@tests/fuzz/run.sh $(if $(RESTART),--restart) --runs $(or $(RUNS),10000000) $(TARGETS)

clean:
	rm -rf build-san $(filter-out build/testenv,$(wildcard build/*))

distclean:
	rm -rf build-san build

.PHONY: all libraries install uninstall unit-programs generated unit e2e bench conformance fault fuzz model powercut races soak fuzz-programs lint check quickstart clean distclean always
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
