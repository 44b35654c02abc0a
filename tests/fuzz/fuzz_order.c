/* SPDX-License-Identifier: MIT */
/*
 * An order's bytes: what a worker does with whatever comes from the daemon (talk.c, worker.c, short.c, and every order's own
 * reading). The first byte: resident, or one order. The rest, up to 0xff, is what comes over the socket; in it 0xfd and a
 * byte is the inode of one of `named`, 0xfe the path of the root, for an order is done only where they are right. After
 * each further 0xff comes what one child prints, for no child is started. The worker is whole but for child.c.
 *
 * There is a root in memory, with an environment and a trashed one in it, made anew whenever it was changed, and the process
 * may write nowhere else (Landlock; without it no order is run): what an order names by a path is out of reach. The worker's
 * variables are for each input what they are when it starts (section.h), so it knows nothing of what came before.
 *
 * Invariants: the worker answers, or ends with status 1 as it does when something is no order; whatever it says is a JSON
 * object with the number of an order that it was given; each order has one end at most, and nothing comes after it.
 */
#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <linux/landlock.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/socket.h>

_Noreturn void order_exit(int status);
int worker_main(int argc, char **argv);
#define exit order_exit
#define main worker_main
#include "../../daemon/worker/talk.c"
#include "../../daemon/worker/worker.c"
#undef exit
#undef main
#include "child.h"
#include "paths.h"

#define IDS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);

static char *base;                      /* in which every input has its root */
static bool confined;
static int argument_count;
static char **arguments;
static const uint8_t *input, *input_end;        /* of the socket */
static const uint8_t *children, *children_end;
static jmp_buf ended;
static struct text said;
static struct {
	json_int_t id;
	size_t given, ended;
} orders[IDS];                          /* by their numbers; whatever is none counts as 0 */
static size_t order_count;

/* --- the process --- */

void order_exit(int status)
{
	assert(status == 1);
	longjmp(ended, 1);
}

ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
	assert(fd == WORKER_FD_ORDERS);
	size_t left = (size_t)(input_end - input);
	/* It closes the socket when the worker waits for it, not before it has heard the answers. */
	if ((flags & MSG_PEEK) || (left == 0 && (flags & MSG_DONTWAIT))) {
		errno = EAGAIN;
		return -1;
	}
	if (left > len)
		left = len;
	memcpy(data, input, left);
	input += left;
	return (ssize_t)left;
}

/* The messages that come, as somebody else would read them. */
static void read_orders(void)
{
	const uint8_t *nul;
	order_count = 0;
	for (const uint8_t *at = input; at < input_end; at = nul + 1) {
		nul = memchr(at, 0, (size_t)(input_end - at));
		if (nul == NULL)
			return;
		json_t *order = json_loadb((const char *)at, (size_t)(nul - at), JSON_REJECT_DUPLICATES, NULL);
		json_int_t id = json_integer_value(json_object_get(order, "id"));
		json_decref(order);
		size_t i = 0;
		while (i < order_count && orders[i].id != id)
			i++;
		if (i == IDS)
			continue;
		if (i == order_count) {
			orders[order_count].id = id;
			orders[order_count].given = orders[order_count].ended = 0;
			order_count++;
		}
		orders[i].given++;
	}
}

/* One message of the worker's. */
static void check_said(const char *text, size_t len)
{
	json_t *message = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	assert(json_is_object(message));
	bool done = json_is_true(json_object_get(message, "done"));
	assert(json_is_string(json_object_get(message, "frame")) != done);
	json_int_t id = json_integer_value(json_object_get(message, "id"));
	size_t i = 0;
	while (i < order_count && orders[i].id != id)
		i++;
	assert(i < order_count || order_count == IDS);
	if (i < order_count) {
		assert(orders[i].ended < orders[i].given);
		orders[i].ended += done;
	}
	json_decref(message);
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	(void)flags;
	assert(fd == WORKER_FD_ORDERS);
	text_add(&said, data, len);
	while (said.len > 0) {
		const char *nul = memchr(said.data, 0, said.len);
		if (nul == NULL)
			break;
		size_t n = (size_t)(nul - said.data);
		check_said(said.data, n);
		memmove(said.data, nul + 1, said.len - n - 1);
		said.len -= n + 1;
	}
	return (ssize_t)len;
}

/* --- child.c --- */

void child_init(void)
{
}

void child_run(struct child *c)
{
	const uint8_t *end = children < children_end ? memchr(children, 0xff, (size_t)(children_end - children)) : NULL;
	if (end == NULL)
		end = children_end;
	c->end = CHILD_EXITED;
	c->status = 0;
	text_adds(&c->output, "");
	for (; children < end; children++)
		text_add(&c->output, *children != 0 ? (const char *)children : " ", 1);
	children += children < children_end;
}

void child_done(struct child *c)
{
	text_done(&c->output);
}

char *child_end_text(const struct child *c)
{
	return xasprintf("exited with status %d", c->status);
}

/* --- what it remembers --- */

#ifdef __clang__                /* which makes the targets; others only look at them */
#define PLAIN __attribute__((no_sanitize("address", "undefined", "coverage"), noinline))
#else
#define PLAIN
#endif

extern char __start_fuzz_zero[], __stop_fuzz_zero[], __start_fuzz_data[], __stop_fuzz_data[];
static char *first_data;

/* Not memcpy(): that would see the room between two variables. Each begins and ends at a multiple of 32. */
static PLAIN void copy_words(void *to, const void *from, size_t len)
{
	volatile uint64_t *words = to;
	for (size_t i = 0; i < len / sizeof(*words); i++)
		words[i] = from != NULL ? ((const uint64_t *)from)[i] : 0;
}

static void forget_all(void)
{
	size_t len = (size_t)(__stop_fuzz_data - __start_fuzz_data);
	if (first_data == NULL) {
		first_data = xreallocarray(NULL, len + 1, 1);
		copy_words(first_data, __start_fuzz_data, len);
	}
	copy_words(__start_fuzz_data, first_data, len);
	copy_words(__start_fuzz_zero, NULL, (size_t)(__stop_fuzz_zero - __start_fuzz_zero));
}

/* --- where it may write --- */

static bool allow(int rules, const char *path, uint64_t what)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = what };
	_cleanup_fd_ int fd = open(path, O_PATH | O_CLOEXEC);
	rule.parent_fd = fd;
	return fd >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

/* Everything may be read; written only our own directory, and those of the fuzzer (given as arguments). */
static bool confine(int argc, char **argv)
{
	const uint64_t writing = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
	    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
	    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
	    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
	struct landlock_ruleset_attr attributes = { .handled_access_fs = writing };
	_cleanup_fd_ int rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (rules < 0 || !allow(rules, base, writing))
		return false;
	for (int i = 1; i < argc; i++)
		if (argv[i][0] != '-')
			allow(rules, argv[i], LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
			    LANDLOCK_ACCESS_FS_REMOVE_FILE);
	/* A merge writes down how far it is. */
	if (getenv("TMPDIR") != NULL)
		allow(rules, getenv("TMPDIR"), LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
		    LANDLOCK_ACCESS_FS_REMOVE_FILE);
	allow(rules, "build-san/fuzz", LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG);
	allow(rules, "/dev", LANDLOCK_ACCESS_FS_WRITE_FILE);    /* null; and where the base lies */
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_landlock_restrict_self, rules, 0) == 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)ftw;
	int removed = type == FTW_DP || type == FTW_DNR ? rmdir(path) : unlink(path);
	return removed == 0 ? 0 : 0;            /* what stays makes mkdir() fail */
}

static void forget(void)
{
	nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(base);
}

/* Descriptors 3 to 6 are as a worker has them; they are taken before anybody else gets them. */
static void give(int fd, int number)
{
	if (fd < 0 || (fd != number && dup3(fd, number, O_CLOEXEC) < 0))
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (int fd = WORKER_FD_ORDERS; fd <= WORKER_FD_LOCK; fd++) {
		int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
		give(nothing, fd);
		if (nothing > WORKER_FD_LOCK)
			close(nothing);
	}
	arguments = *argv;
	argument_count = *argc;
	return 0;
}

/* With those above it that are not there yet. */
static void put_directory(int in, const char *name)
{
	_cleanup_free_ char *path = xstrdup(name);
	for (char *p = path; p != NULL;) {
		char *slash = strchr(p, '/');
		if (slash != NULL)
			*slash = '\0';
		if (mkdirat(in, path, 0700) != 0 && errno != EEXIST)
			abort();
		if (slash != NULL)
			*slash++ = '/';
		p = slash;
	}
}

static void put_file(int in, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(in, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_all(fd, text, strlen(text)) != 0)
		abort();
}

/* Interpreters are looked for in /usr and here, so not in what else this machine has. */
static void make_home(void)
{
	static const char *const installed[] = { ".pyenv/versions/3.12.1", ".pyenv/versions/2.7.18",
		".local/share/uv/python/cpython-3.10.1-linux-x86_64-gnu" };
	_cleanup_free_ char *home = xasprintf("%s/home", base);
	if (mkdir(home, 0700) != 0 || setenv("HOME", home, 1) != 0)
		abort();
	_cleanup_fd_ int fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LENGTH(installed); i++) {
		_cleanup_free_ char *bin = xasprintf("%s/bin", installed[i]), *python = xasprintf("%s/python3", bin);
		put_directory(fd, bin);
		put_file(fd, python, "\177ELF");
		if (fchmodat(fd, python, 0700, 0) != 0)
			abort();
	}
}

/* Not before the first input: who only starts others, to merge, must not take their rights away. */
static void begin(void)
{
	base = xasprintf("%s/venvd-fuzz-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(base) == NULL)
		abort();
	atexit(forget);
	make_home();
	confined = confine(argument_count, arguments);
	if (!confined)
		fprintf(stderr, "no Landlock here: no order is run\n");
	signal(SIGPIPE, SIG_IGN);
}

/* --- the root --- */

static ino_t inode_of(int in, const char *name)
{
	struct stat st;
	if (fstatat(in, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		abort();
	return st.st_ino;
}

#define TRASHED PATH_STATE "/" PATH_TRASH "/old~1~x"
#define SITE "a/lib/python3.12/site-packages"
#define CFG "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.12.1\nexecutable = /usr/bin/python3.12\n"

#define STAGED PATH_STATE "/" PATH_STAGE "/b~1~y"
static const char *const directories[] = { PATH_STATE, PATH_STATE "/" PATH_STAGE, STAGED, PATH_STATE "/" PATH_TRASH, TRASHED,
	TRASHED "/" PATH_TREE, PATH_STATE "/" PATH_POOL, PATH_STATE "/" PATH_IMAGES, "a", "a/bin", "a/lib", "a/lib/python3.12",
	SITE, SITE "/p-1.dist-info" };
/* What orders are about. */
static const char *const named[] = { "a", TRASHED "/" PATH_TREE, STAGED, "a/bin" };
static ino_t inodes[ARRAY_LENGTH(named)];
static const struct {
	const char *name, *text;
} files[] = {
	{ PATH_STATE "/" PATH_LOCK, "" }, { "a/pyvenv.cfg", CFG "command = /usr/bin/python3.12 -m venv /r/a\n" },
	{ "a/bin/activate", "VIRTUAL_ENV='/r/a'\nPS1=\"(a) \"\n" }, { "a/bin/p", "#!/r/a/bin/python\nimport p\n" },
	{ SITE "/p-1.dist-info/METADATA", "Name: p\nVersion: 1\n" },
	{ SITE "/p-1.dist-info/RECORD", "../../../bin/p,sha256=x,30\np-1.dist-info/METADATA,sha256=y,19\np-1.dist-info/RECORD,,\n" },
	{ TRASHED "/" PATH_TREE "/pyvenv.cfg", CFG }, { TRASHED "/record.json", "{\"name\":\"old\"}" },
};
static const struct {
	const char *name, *target;
} links[] = {
	{ "a/bin/python", "python3" }, { "a/bin/python3", "/usr/bin/python3" }, { "a/lib64", "lib" }, { "l", "a" },
};

/* What is done to a root is told by its directories (inotify): to make one costs a hundred system calls, and most orders
 * change nothing in it. */
static int watch = -1;

static bool is_untouched(void)
{
	char events[4096];
	bool untouched = true;
	while (read(watch, events, sizeof(events)) > 0)
		untouched = false;
	return untouched;
}

static void watch_directory(const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/r/%s", base, name);
	if (inotify_add_watch(watch, path, IN_ATTRIB | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF |
	    IN_MOVE_SELF | IN_ONLYDIR) < 0)
		abort();
}

static void make_root(void)
{
	_cleanup_free_ char *path = xasprintf("%s/r", base);
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (mkdir(path, 0700) != 0)
		abort();
	_cleanup_fd_ int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root <= WORKER_FD_LOCK)
		abort();
	for (size_t i = 0; i < ARRAY_LENGTH(directories); i++)
		if (mkdirat(root, directories[i], 0700) != 0)
			abort();
	for (size_t i = 0; i < ARRAY_LENGTH(files); i++)
		put_file(root, files[i].name, files[i].text);
	for (size_t i = 0; i < ARRAY_LENGTH(links); i++)
		if (symlinkat(links[i].target, root, links[i].name) != 0)
			abort();
	for (size_t i = 0; i < ARRAY_LENGTH(named); i++)
		inodes[i] = inode_of(root, named[i]);
	watch_directory("");
	for (size_t i = 0; i < ARRAY_LENGTH(directories); i++)
		watch_directory(directories[i]);
	_cleanup_fd_ int state = openat(root, PATH_STATE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	give(root, WORKER_FD_ROOT);
	give(state, WORKER_FD_STATE);
	is_untouched();                         /* what was said of the one before, that nobody holds any more */
}

/* What the input says of this root. */
static void expand(const uint8_t *data, const uint8_t *end)
{
	static struct text orders_text;
	text_clear(&orders_text);
	text_adds(&orders_text, "");
	for (; data < end; data++) {
		if (*data == 0xfd && data + 1 < end)
			text_addf(&orders_text, "%llu", (unsigned long long)inodes[*++data % ARRAY_LENGTH(inodes)]);
		else if (*data == 0xfe)
			text_addf(&orders_text, "%s/r", base);
		else
			text_add(&orders_text, data, 1);
	}
	input = (const uint8_t *)orders_text.data;
	input_end = input + orders_text.len;
}

static void run_worker(bool resident)
{
	if (setjmp(ended) != 0)
		return;
	if (resident) {
		serve_resident();
		return;
	}
	json_auto_t *order = talk_next(true);
	if (order != NULL)
		run(order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ours = -1;                   /* this descriptor and all above it */
	if (base == NULL)
		begin();
	if (size == 0 || !confined)
		return 0;
	if (ours < 0) {
		watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (watch <= WORKER_FD_LOCK)
			abort();
		make_root();
		ours = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	const uint8_t *cut = memchr(data + 1, 0xff, size - 1);
	expand(data + 1, cut != NULL ? cut : data + size);
	children = cut != NULL ? cut + 1 : data + size;
	children_end = data + size;
	forget_all();
	gone = false;
	read_orders();
	frame_reader_init(&reader, LIMIT_WORKER_FRAME);
	text_clear(&said);
	run_worker(data[0] % 2 == 0);
	frame_reader_done(&reader);
	umask(022);
	close_range((unsigned)ours, ~0u, 0);    /* what a worker that ended had open */
	if (!is_untouched())
		make_root();
	return 0;
}
