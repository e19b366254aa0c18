# SPDX-License-Identifier: MIT
# A menu in front of Meson: `make help` shows it. Every build lives in build/ or build-NAME/.
BUILD = build
JOBS = $(shell nproc)
PREFIX = /usr/local
# Where Debian looks for libraries, which Meson knows of dpkg-dev alone; elsewhere Meson knows.
LIBDIR = $$(cc -print-multiarch 2>/dev/null | sed 's,^.,--libdir=lib/&,')
DESTDIR =
T =
OPS = 10000000
SECONDS = 300
CONNECTIONS = 10000

ASAN_ENV = ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
# AddressSanitizer of gcc 12 sees to its own locks at no fork: who starts threads in a child may
# wait for one that nobody has there.
ASAN_EXCEPT = --except */fork/the_child_starts_anew \
    --except */edges/a_child_that_starts_anew_keeps_no_descriptor
TSAN_ENV = TSAN_OPTIONS=halt_on_error=1:die_after_fork=0
# A child of a program with threads may have none of its own there; what ThreadSanitizer keeps about
# 2 GiB of a buffer does not fit into a usual machine.
TSAN_EXCEPT = --except */fork/the_child_starts_anew \
    --except */fork/slots_with_descriptors_are_inherited \
    --except */slotted/a_forked_child_has_no_sockets_of_the_ring \
    --except */edges/a_child_that_starts_anew_keeps_no_descriptor \
    --except */posixaio/a_child_of_its_user_writes_without_it \
    --except */files/a_huge_read_is_cut_or_goes_on
# The drop-in for POSIX AIO, linked to its test. AddressSanitizer: as above. ThreadSanitizer keeps
# signals until the thread is inside a call that it knows, and one of each number (p35, p43), has a
# thread of its own (p39, p48), its end waits for threads that a child of fork does not have (p48),
# it sees a race in a program that closes descriptors that are in use (p19, p49) and an allocation
# in a handler that submits (p28), and no lock that is taken while a cancelled thread is unwound
# (p29). Both leave a forked child the lock of their allocator as another thread had it (p46, p52),
# and end a program whose address space is full (p36).
AIO_LINKED_ASAN_EXCEPT = --except p46_a_fork_may_come_at_any_time \
    --except p36_a_lack_of_threads_loses_no_call \
    --except p52_threads_drive_by_turns_while_the_process_forks
AIO_LINKED_TSAN_EXCEPT = $(AIO_LINKED_ASAN_EXCEPT) \
    --except p35_a_full_queue_of_signals_spoils_no_result \
    --except p39_no_thread_before_the_first_request \
    --except p43_a_list_tells_when_all_are_over \
    --except p48_exit_does_not_wait \
    --except p48_the_last_thread_ends_the_process \
    --except p49_a_program_may_close_all_descriptors \
    --except p19_appends_that_wait_never_write_another_file \
    --except p28_a_handler_waits_for_quick_requests_inside_such_a_wait \
    --except p29_who_drives_may_be_cancelled
# ThreadSanitizer of gcc 12 wants its addresses where they are without randomisation.
FIXED = $(shell setarch -R true 2>/dev/null && echo setarch -R)
LONG = SUITE_SECONDS=43200
# valgrind knows no io_uring, no openat2 and no seccomp, keeps a signal for itself and the limits of
# descriptors, lets no thread run while another one is in close(2), and calls a buffer that shall be
# EFAULT an error.
VALGRIND = valgrind --quiet --error-exitcode=99 --leak-check=full \
    --suppressions=tests/valgrind.supp
VALGRIND_ROWS = owned+callback+blocking+none,shared+wait+blocking+none,service+reap+nonblock+none
VALGRIND_CASES = --row $(VALGRIND_ROWS) --except threads/refusal \
    --except threads/fork/exec_inherits_nothing --except threads/files/unmapped_buffers_are_efault \
    --except threads/files/flags_of_reads_and_writes_may_be_unknown \
    --except threads/changes/a_slow_server_is_waited_for_once_in_a_while \
    --except threads/changes/a_worker_is_interrupted_without_the_programs_handlers \
    --except threads/edges/a_lingering_close_holds_up_nothing \
    --except threads/slotted/a_lingering_slot_holds_up_nothing \
    --except threads/slotted/a_slot_that_inherits_lingering_holds_up_nothing \
    $(foreach name,direct/a_missing_buffer_is_efault ready/deadlines_need_no_young_system_call \
    network/without_descriptors_the_served_stay_and_the_others_come_later \
    sockets/an_accept_without_descriptors_fails_and_loses_nothing \
    streams/a_lack_of_descriptors_is_waited_out streams/a_full_table_of_the_system_is_waited_out \
    slots/more_slots_than_descriptors_are_slots_all_the_same \
    slots/more_slots_than_descriptors_are_slots_all_the_same_slotted,--except threads/$(name))

NINJA = ninja -j$(JOBS)
QUICK = $(addprefix $(BUILD)/tests/, run perform_test ring_test own_aio_test histogram_test \
    abi_liburing abi_kernel) \
    $(addprefix tests/, tidy rows summary planted header exports man readme examples) \
    $(addprefix tests/, cli_test.sh info_test.sh echo_test.sh run_test.sh consumer/run musl/run)
# POSIX AIO on ouro: where io_uring can be had, where it is refused, and on threads.
AIO = $(BUILD)/tests/aio_test
OFTEN = --long p28_handlers_may_wait_whatever_they_interrupt
# The same random programs on it and on glibc; and one wrong result, which must be found.
AIO_DIFF = $(BUILD)/tests/aio_diff --library $(BUILD)/libouro-posixaio.so
# libaio on ouro, likewise, and on rings of its own. Random programs still find differences
# (make libaio-diff), so only the planted one is looked for.
LIBAIO = $(BUILD)/tests/libaio_test
LIBAIO_DIFF = $(BUILD)/tests/libaio_diff --library $(BUILD)/libouro-libaio.so
PROGRAMS = 100000
SEED = 1
DROPINS = '$(BUILD)/ouro run -- $(AIO)' '$(BUILD)/ouro run -- $(AIO) --blocked' \
    '$(BUILD)/ouro run --engine=threads -- $(AIO)' '$(AIO_DIFF) --count 800' \
    '$(AIO_DIFF) --count 800 --seed 10001 --blocked' \
    '$(AIO_DIFF) --count 800 --seed 20001 --engine threads' \
    '$(AIO_DIFF) --planted $(BUILD)/tests/libaio-wrong.so' \
    '$(BUILD)/ouro run -- $(LIBAIO)' \
    '$(BUILD)/ouro run -- $(LIBAIO) --blocked' \
    '$(BUILD)/ouro run --engine=threads -- $(LIBAIO)' \
    'env OURO_AIO_PURE=1 $(BUILD)/ouro run -- $(LIBAIO) --lacks tests/libaio_pure.txt' \
    '$(LIBAIO_DIFF) --planted $(BUILD)/tests/libaio-diff-wrong.so'
# The same where a sanitizer has to be linked in: a build, what starts it, and its options.
aio_linked = '$(strip $(2) $(1)/tests/aio_test_linked $(3))' \
    '$(strip $(2) $(1)/tests/aio_test_linked --blocked $(3))' \
    '$(strip $(2) env OURO_ENGINE=threads $(1)/tests/aio_test_linked $(3))'

all: $(BUILD)/build.ninja ## build the library and the command (build/ouro)
	@$(NINJA) -C $(BUILD)

help: ## show this menu
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

$(BUILD)/build.ninja:
	@scripts/install-deps build
	@meson setup $(BUILD) --prefix=$(PREFIX) $(LIBDIR)

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
	@scripts/run-tests $(BUILD) $(QUICK) '$(BUILD)/tests/run --blocked=kill' --together $(DROPINS)

check-full: ## all axes in full, also blocked and under sanitizers: hours; goes on where it ended
	@$(MAKE) --no-print-directory check build-asan/build.ninja build-tsan/build.ninja
	@$(NINJA) -C build-asan tests
	@$(NINJA) -C build-tsan tests
	@$(LONG) scripts/run-tests $(BUILD) '$(BUILD)/tests/run --full --state $(BUILD)/full.state' \
	    $(foreach how,eperm enosys kill,'$(BUILD)/tests/run --blocked=$(how) \
	    --state $(BUILD)/$(how).state')
	@$(ASAN_ENV) $(LONG) scripts/run-tests build-asan \
	    'build-asan/tests/run $(ASAN_EXCEPT) --full --state build-asan/full.state'
	@$(TSAN_ENV) $(LONG) scripts/run-tests build-tsan \
	    '$(FIXED) build-tsan/tests/run $(TSAN_EXCEPT) --full --state build-tsan/full.state'

test: $(BUILD)/build.ninja ## some tests of the suite: make test T=uring/cancel
	@$(NINJA) -C $(BUILD) tests
	@$(BUILD)/tests/run $(T)

asan: build-asan/build.ninja ## the suite under AddressSanitizer and UBSan
	@$(NINJA) -C build-asan tests
	@$(ASAN_ENV) $(LONG) scripts/run-tests build-asan 'build-asan/tests/run $(ASAN_EXCEPT)' \
	    $(call aio_linked,build-asan,,$(AIO_LINKED_ASAN_EXCEPT))

tsan: build-tsan/build.ninja ## the suite under ThreadSanitizer
	@$(NINJA) -C build-tsan tests
	@$(TSAN_ENV) $(LONG) scripts/run-tests build-tsan \
	    '$(FIXED) build-tsan/tests/run $(TSAN_EXCEPT)' \
	    $(call aio_linked,build-tsan,$(FIXED),$(AIO_LINKED_TSAN_EXCEPT))

valgrind: $(BUILD)/build.ninja ## the threads engine under valgrind, which writes valgrind.log
	@scripts/install-deps valgrind
	@$(NINJA) -C $(BUILD) tests
	@OURO_TEST_SLOW=8 $(LONG) scripts/run-tests $(BUILD) \
	    '$(VALGRIND) $(BUILD)/tests/run --engine threads $(VALGRIND_CASES)' 2>$(BUILD)/valgrind.log

soak: $(BUILD)/build.ninja ## random operations under the ledger: make soak OPS=1000000
	@$(NINJA) -C $(BUILD) tests
	@for engine in uring kaio epoll threads posixaio; do \
	    $(BUILD)/tests/soak --engine $$engine --ops $(OPS) || exit; done

hold: all ## 10,000 connections held for minutes by one thread: make hold SECONDS=60
	@scripts/hold $(BUILD) $(SECONDS) $(CONNECTIONS)

aio-diff: all ## random programs of POSIX AIO on ouro and on glibc: make aio-diff PROGRAMS=1000
	@$(NINJA) -C $(BUILD) tests
	@OURO_DISABLE=1 $(BUILD)/ouro run -- $(AIO) --original # and where glibc is not good enough
	@for how in '' --blocked '--engine threads'; do \
	    $(AIO_DIFF) --count $(PROGRAMS) --seed $(SEED) $$how || exit; done

aio-signals: all ## each call of POSIX AIO interrupted a million times by a handler that waits
	@$(NINJA) -C $(BUILD) tests
	@$(LONG) scripts/run-tests $(BUILD) '$(BUILD)/ouro run -- $(AIO) $(OFTEN)' \
	    '$(BUILD)/ouro run -- $(AIO) --blocked $(OFTEN)' \
	    '$(BUILD)/ouro run --engine=threads -- $(AIO) $(OFTEN)'

libaio-diff: all ## random programs of libaio on ouro and on the system's: PROGRAMS=1000 SEED=1
	@$(NINJA) -C $(BUILD) tests
	@OURO_DISABLE=1 $(BUILD)/ouro run -- $(LIBAIO) --original # the tests want what the kernel does
	@for how in '' --blocked '--engine threads'; do \
	    $(LIBAIO_DIFF) --count $(PROGRAMS) --seed $(SEED) $$how || exit; done

check-consumers: all ## programs of others on the drop-ins: fio, QEMU, MariaDB, ...
	@scripts/install-deps check consumers
	@scripts/run-tests $(BUILD) tests/consumers_aio.sh tests/consumers_libaio.sh

check-fresh: ## make demo and make check, each on a new Debian 12 of its own (as root)
	@scripts/install-deps fresh
	@for target in demo check; do scripts/fresh $$target || exit; done

check-machines: ## the library and its drop-in for other machines, under an emulator
	@scripts/install-deps build check machines
	@scripts/run-tests $(BUILD) 'tests/machine aarch64' 'tests/machine riscv64'

cover: build-cover/build.ninja ## which lines of the library the suite runs
	@scripts/install-deps cover
	@$(NINJA) -C build-cover tests
	@scripts/run-tests build-cover build-cover/tests/run
	@gcovr --root . --filter src/ build-cover

bench: all ## ouro bench: overhead, many files, random reads, every contender
	@for suite in nop 'files --cold' 'files --warm' 'random --direct'; do \
	    echo; echo "$$ ouro bench $$suite"; $(BUILD)/ouro bench $$suite || exit; done

build-asan/build.ninja:
	@scripts/install-deps build check
	@meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false \
	    -Dc_args='-fno-sanitize-recover=all -fno-omit-frame-pointer'

build-tsan/build.ninja:
	@scripts/install-deps build check
	@meson setup build-tsan -Db_sanitize=thread -Db_lundef=false

build-cover/build.ninja:
	@scripts/install-deps build check
	@meson setup build-cover -Db_coverage=true -Doptimization=0

lint: ## formatting, static analysis, -Werror builds, tidy: 0 findings
	@scripts/install-deps build check lint
	@scripts/lint

format: ## clang-format 14 over every C file
	@clang-format -i $$(git ls-files '*.c' '*.h')

abi: all ## the header, the symbol map and the exports agree; sizes hold
	@scripts/run-tests $(BUILD) tests/header tests/exports

man: all ## build and check the man pages ($(BUILD)/*.1, *.3)
	@scripts/install-deps check
	@scripts/run-tests $(BUILD) tests/man

install: all ## install under PREFIX (and DESTDIR)
	@meson configure $(BUILD) --prefix=$(PREFIX)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD)

ci: ## what CI runs
	@.ci/run

clean: ## remove every build directory
	rm -rf build build-*

.PHONY: all help deps demo check check-consumers check-fresh check-full check-machines test \
    asan tsan valgrind soak hold aio-diff aio-signals libaio-diff cover bench lint format abi man \
    install ci clean
