/* SPDX-License-Identifier: MIT */
/*
 * venvd-worker: all file-system work of venvd and every Python child. Started by venvd alone, never by a
 * person; proto/orders.h is the whole of what it understands. "resident" does short orders and claims in batches
 * until EOF; "order" does one, at nice 10 and idle I/O unless a start waits for it, and ends.
 *
 * It keeps nothing between orders but claims that wait for their "go" and what can be read again, decides nothing
 * about names, and does not outlive its daemon: at EOF the child and all of its descendants are killed before it
 * ends.
 */
#include <fcntl.h>
#include <linux/ioprio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "bounds.h"
#include "child.h"
#include "frame.h"
#include "orders.h"
#include "orders_do.h"
#include "reserve.h"
#include "talk.h"

#define ORDER_NICE 10
#define RESIDENT_FILES 8192

static const struct {
	const char *op;
	int (*run)(json_t *order, json_t **ret, struct failure *);
} table[] = {
	{ "clone", do_clone },
	{ "create", do_create },
	{ "diagnose", do_diagnose },
	{ "evict", do_evict },
	{ "fill", do_fill },
	{ "image", do_image },
	{ "inspect", do_inspect },
	{ "interpreters", do_interpreters },
	{ "packages", do_packages },
	{ "purge", do_purge },
	{ "purge-name", do_purge_name },
	{ "purge-state", do_purge_state },
	{ "python", do_python },
	{ "rename", do_rename },
	{ "repair", do_repair },
	{ "resolve", do_resolve },
	{ "scan", do_scan },
	{ "settle", do_settle },
};

static int run(json_t *order)
{
	const char *op;
	json_int_t id;
	talk_unpack(order, "{s:I, s:s}", "id", &id, "op", &op);
	for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
		if (strcmp(table[i].op, op) != 0)
			continue;
		_cleanup_failure_ struct failure failure = { 0 };
		json_t *answer = NULL;
		if (table[i].run(order, &answer, &failure) == 0)
			talk_answer(order, answer);
		else if (!failure_is_gone(&failure))
			talk_fail(order, &failure);
		return 0;
	}
	fprintf(stderr, "venvd-worker: unknown order '%s'\n", op);
	return 1;
}

static void be_modest(void)
{
	(void)!nice(ORDER_NICE);
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

static int serve_one(void)
{
	child_init();
	json_auto_t *order = talk_next(true);
	if (!order)
		return 0;
	/* On a busy host everybody would wait for a start whose looks give way to all else. */
	if (!json_is_true(json_object_get(order, "starting")))
		be_modest();
	return run(order);
}

/* The files of all claims of a batch are under way together. There is no child that would inherit this. */
static void raise_file_limit(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_cur = files.rlim_max < RESIDENT_FILES ? files.rlim_max : RESIDENT_FILES;
	setrlimit(RLIMIT_NOFILE, &files);
}

static int serve_resident(void)
{
	static json_t *orders[LIMIT_SHORT_ORDERS];
	raise_file_limit();
	signal(SIGTERM, SIG_IGN);       /* what the daemon has accepted is finished; EOF ends it */
	for (;;) {
		orders[0] = talk_next(false);
		if (!orders[0]) {
			do_meanwhile();
			reserve_fill(WORKER_FD_STATE);
			orders[0] = talk_next(true);
		}
		if (!orders[0])
			break;
		size_t count = 1;
		while (count < LIMIT_SHORT_ORDERS && (orders[count] = talk_next(false)))
			count++;
		do_short(orders, count);
	}
	return 0;
}

/* Close-on-exec even where a seccomp filter refuses close_range(). A number that we were not given must
 * not become that of something else. */
static void take_descriptors(void)
{
	if (fcntl(WORKER_FD_ORDERS, F_SETFD, FD_CLOEXEC) < 0)
		return;                 /* talk_init() says so */
	for (int fd = WORKER_FD_ROOT; fd <= WORKER_FD_LOCK; fd++) {
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
			continue;
		int nothing = open("/dev/null", O_PATH | O_CLOEXEC);
		if (nothing >= 0 && nothing != fd) {
			dup3(nothing, fd, O_CLOEXEC);
			close(nothing);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 2 || (strcmp(argv[1], "resident") != 0 && strcmp(argv[1], "order") != 0)) {
		fprintf(stderr, "venvd-worker: this program is started by venvd alone\n");
		return 2;
	}
	frame_memory();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);        /* a terminal's ^C is for the daemon to deal with */
	signal(SIGHUP, SIG_IGN);
	take_descriptors();
	umask(022);
	talk_init();
	int status = strcmp(argv[1], "resident") == 0 ? serve_resident() : serve_one();
	talk_done_with();
	return status;
}
