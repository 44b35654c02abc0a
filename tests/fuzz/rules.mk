# SPDX-License-Identifier: MIT
#
# What each fuzz target is made of, besides its own file and proto/: the rooms under test, as they are. Built with
# FUZZ=1 (tests/fuzz/run.sh does it). A target's WRAP are the functions of the system that it stands in for.

FUZZ_PROGRAMS := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
# Rooms of a program but for some.
rooms = $(filter-out $(patsubst %,$(BUILD)/obj/$(1)/%.o,$(2)),$(call objects,$(1)/*.c))

$(BUILD)/fuzz_pyvenv: $(call objects,daemon/worker/pyvenv.c daemon/worker/pytext.c)
$(BUILD)/fuzz_moved: $(call objects,daemon/worker/moved.c daemon/worker/pytext.c daemon/worker/record.c)
$(BUILD)/fuzz_row: $(call objects,client/row.c)

fuzz-programs: $(FUZZ_PROGRAMS)
$(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(PROTO)
	$(call say,LINK)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer $(patsubst %,-Wl$(comma)--wrap=%,$(WRAP)) -o $@ $(filter %.o,$^) \
		$(FUZZ_LIBS) -ljansson -lmd
comma := ,

# The daemon without what house.c stands in for.
FUZZ_HOUSE := $(filter-out $(BUILD)/obj/daemon/store%,$(call rooms,daemon,log root spawn venvd watch)) \
	$(BUILD)/obj/daemon/store_queue.o $(BUILD)/obj/tests/fuzz/house.o $(BUILD)/obj/tests/fuzz/sockets.o
$(BUILD)/fuzz_frame $(BUILD)/fuzz_answer: $(FUZZ_HOUSE)
$(BUILD)/fuzz_frame $(BUILD)/fuzz_answer: FUZZ_LIBS = -levent_core -linih
$(BUILD)/fuzz_frame $(BUILD)/fuzz_answer: WRAP = event_add event_base_once event_new getrandom kill monotonic_us \
	now_us waitpid
$(BUILD)/fuzz_distinfo: $(patsubst %,$(BUILD)/obj/daemon/worker/%.o,distinfo failure place talk)
$(BUILD)/fuzz_catalog: $(call objects,daemon/environment.c daemon/store*.c daemon/word.c)
$(BUILD)/fuzz_catalog: FUZZ_LIBS = -lsqlite3
$(BUILD)/fuzz_catalog: WRAP = abort store_file_make
$(BUILD)/fuzz_reply: $(call rooms,client,find start venvctl)
$(BUILD)/fuzz_reply: WRAP = fd_write_all send recv isatty talk_terminal exit _exit
ifdef FUZZ
$(BUILD)/obj/daemon/worker/%.o: CPPFLAGS += -include tests/fuzz/section.h
endif
$(BUILD)/fuzz_order: $(call rooms,daemon/worker,child talk worker)
$(BUILD)/fuzz_order: WRAP = send recv
