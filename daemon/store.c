/* SPDX-License-Identifier: MIT */
/*
 * The catalog on disk. The only file that uses SQLite, and it has one connection, used by one
 * thread at a time: by its caller until store_start(), by the store's thread until that is joined
 * in store_close().
 *
 * The thread takes all that waits in the exchange as one group, commits it once, and gives it back; then
 * store_deliver() calls back on the loop's thread.
 *
 * A group that fails for want of space fails as a whole: SQLite may have rolled back all of it.
 * Those who wait are told; what nobody waits for is `kept` and goes in front of the next group, so
 * that the order of the rows of one environment stays. What a broken disk did is not retried: after
 * a failed fsync the kernel may call pages clean that never reached it. abort(), restart,
 * reconcile.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include "bounds.h"
#include "log.h"
#include "paths.h"
#include "store_file.h"
#include "store_exchange.h"
#include "store_row.h"
#include "store_sqlite.h"

#define APPLICATION_ID 1986358884       /* as in schema/001-init.sql */
#define CHECKPOINT_PAGES 1000           /* of the log, before they go into the file */
#define LOG_PAGE (4096 + 24)            /* a page in the log has a header of its own */
#define LOG_BYTES ((CHECKPOINT_PAGES + 64) * LOG_PAGE) /* the log's length from the first commit on */
#define KEPT_MAX 65536                  /* operations kept while the disk is full */
#define TRIM_EVERY 1024                 /* request ids put between two looks at their number */

static const char schema_001[] =
#include "001-init.sql.inc"
;
static const char schema_002[] =
#include "002-options.sql.inc"
;
static const char schema_003[] =
#include "003-rename-protect.sql.inc"
;
static const char schema_004[] =
#include "004-looked.sql.inc"
;

/* Each in a transaction of its own; its text ends with PRAGMA user_version = its number. */
static const struct {
	int version;
	const char *sql;
} migrations[] = {
	{ 1, schema_001 },
	{ 2, schema_002 },
	{ 3, schema_003 },
	{ 4, schema_004 },
};
#define SCHEMA_VERSION (migrations[ARRAY_LENGTH(migrations) - 1].version)

enum statement {
	PUT = STORE_OP_PUT, DROP = STORE_OP_DROP, PUT_REQUEST = STORE_OP_PUT_REQUEST,
	DROP_REQUEST = STORE_OP_DROP_REQUEST, DROP_REQUESTS = STORE_OP_DROP_REQUESTS,
	BEGIN, COMMIT, ROLLBACK, TRIM_REQUESTS, LOAD, LOAD_REQUESTS, STATEMENT_COUNT
};

static const char *const statements[STATEMENT_COUNT] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[PUT] = "INSERT OR REPLACE INTO environment (" ROW_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
	    " ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,"
	    " ?23, ?24, ?25, ?26, ?27)",
	[DROP] = "DELETE FROM environment WHERE id = ?1",
	[PUT_REQUEST] = "INSERT OR REPLACE INTO request (" ROW_REQUEST_COLUMNS ")"
	    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
	[DROP_REQUEST] = "DELETE FROM request WHERE id = ?1",
	[DROP_REQUESTS] = "DELETE FROM request WHERE at_us < ?1",
	[TRIM_REQUESTS] = "DELETE FROM request WHERE at_us <="
	    " (SELECT at_us FROM request ORDER BY at_us DESC LIMIT 1 OFFSET ?1)",
	[LOAD] = "SELECT " ROW_COLUMNS " FROM environment",
	/* The '+' keeps it from the index: quick_check does not see whether rows are missing there. */
	[LOAD_REQUESTS] = "SELECT " ROW_REQUEST_COLUMNS " FROM request ORDER BY +at_us",
};

struct store {
	int dir_fd;                     /* of our own; -1: in memory */
	sqlite3 *db;
	sqlite3_stmt *prepared[STATEMENT_COUNT];
	int log_pages;                  /* in the write-ahead log, as the last commit said */
	bool log_lengthened;            /* or there was no room for it */
	unsigned requests_put;          /* since they were last trimmed */
	struct store_queue kept;        /* the thread's own */
	struct row_list rows;           /* read when the file was opened, until somebody loads them */

	bool started;
	pthread_t thread;
	struct store_exchange exchange; /* between the loop and the thread */
};

/* --- opening ------------------------------------------------------------------------------- */

static int pragma_number(sqlite3 *db, const char *sql, int *ret)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		*ret = sqlite3_column_int(stmt, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? SQLITE_ERROR : rc;
}

/* The first complaint of the check, owned; NULL if there is none. It evaluates the schema's CHECKs only if `all`: they are
 * most of its time, and each row is held against the same rules when it is read (row_list_read). */
static char *quick_check(sqlite3 *db, bool all, int *rc)
{
	sqlite3_stmt *stmt = NULL;
	char *complaint = NULL;

	if (!all)
		sqlite3_exec(db, "PRAGMA ignore_check_constraints = ON", NULL, NULL, NULL);
	*rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	if (*rc == SQLITE_OK && (*rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *said = (const char *)sqlite3_column_text(stmt, 0);
		if (!said || strcmp(said, "ok") != 0)
			complaint = xstrdup(said ? said : "quick_check says nothing");
		*rc = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	if (!all && *rc == SQLITE_OK)
		*rc = sqlite3_exec(db, "PRAGMA ignore_check_constraints = OFF", NULL, NULL, NULL);
	return complaint;
}

/* What came of an attempt to open the file. */
struct attempt {
	bool damaged;           /* moving it aside may help */
	char *why;              /* owned; NULL: it is open */
};

/* The last two: the schema is of our number, but not as we made it. */
static bool is_damage(int rc)
{
	rc &= 0xff;
	return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB || rc == SQLITE_ERROR || rc == SQLITE_CONSTRAINT;
}

static void failed(struct store *store, struct attempt *attempt, int rc)
{
	bool has_said = store->db && (sqlite3_errcode(store->db) & 0xff) == (rc & 0xff);
	const char *said = has_said ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc);

	attempt->damaged = is_damage(rc);
	if ((rc & 0xff) == SQLITE_BUSY)
		attempt->why = xstrdup("'" PATH_CATALOG "' is held open by another program");
	else if (attempt->damaged)
		attempt->why = xstrdup(said);
	else
		attempt->why = xasprintf("cannot open '" PATH_CATALOG "': %s", said);
}

static int log_grew_cb(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct store *store = arg;

	(void)db, (void)name;
	store->log_pages = pages;
	return SQLITE_OK;
}

static int open_db(struct store *store)
{
	char name[64];
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	const char *vfs = store->dir_fd >= 0 ? store_sqlite_vfs() : NULL;

	if (store->dir_fd >= 0 && !vfs)
		return SQLITE_NOMEM;
	snprintf(name, sizeof(name), "/proc/self/fd/%d/" PATH_CATALOG, store->dir_fd);
	int rc = sqlite3_open_v2(vfs ? name : ":memory:", &store->db, flags, vfs);
	if (rc != SQLITE_OK)
		return rc;
	if (sqlite3_db_readonly(store->db, "main") != 0)
		return SQLITE_READONLY;         /* it may not be opened for writing, so it was for reading */
	sqlite3_extended_result_codes(store->db, 1);
	/* In place of the automatic checkpoint, which does not say when it fails. */
	sqlite3_wal_hook(store->db, log_grew_cb, store);
	sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
	/* Exclusive before the first look: then the index of the log lies in our memory, not in a file. */
	return sqlite3_exec(store->db,
	    "PRAGMA locking_mode = EXCLUSIVE;"
	    "PRAGMA trusted_schema = OFF;"
	    "PRAGMA cell_size_check = ON;"
	    "PRAGMA mmap_size = 0;"
	    "PRAGMA temp_store = MEMORY;", NULL, NULL, NULL);
}

/* Whose file it is and of which schema; nothing has been written to it yet. */
static int recognise(struct store *store, const char *root, struct attempt *attempt, int *ret_version)
{
	int application = 0, objects = 0;
	int rc = pragma_number(store->db, "PRAGMA application_id", &application);

	if (rc == SQLITE_OK)
		rc = pragma_number(store->db, "PRAGMA user_version", ret_version);
	if (rc == SQLITE_OK)
		rc = pragma_number(store->db, "SELECT count(*) FROM sqlite_schema", &objects);
	if (rc != SQLITE_OK)
		return rc;
	if (application == 0 && *ret_version == 0 && objects == 0)
		return SQLITE_OK;
	if (application != APPLICATION_ID || *ret_version < 1) {
		attempt->damaged = true;
		attempt->why = xstrdup("it is no catalog of venvd");
	} else if (*ret_version > SCHEMA_VERSION) {
		attempt->why = store_file_newer(root, *ret_version, SCHEMA_VERSION);
	}
	return SQLITE_OK;
}

static int migrate(struct store *store, int version)
{
	int rc = SQLITE_OK, now = version;

	for (size_t i = 0; rc == SQLITE_OK && i < ARRAY_LENGTH(migrations); i++) {
		if (migrations[i].version <= version)
			continue;
		rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(store->db, migrations[i].sql, NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = pragma_number(store->db, "PRAGMA user_version", &now);
		if (rc == SQLITE_OK && now != migrations[i].version)
			abort();
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
	}
	return rc;
}

static int prepare(struct store *store)
{
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < STATEMENT_COUNT; i++)
		rc = sqlite3_prepare_v3(store->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
		    &store->prepared[i], NULL);
	return rc;
}

static void close_db(struct store *store)
{
	for (size_t i = 0; i < STATEMENT_COUNT; i++) {
		sqlite3_finalize(store->prepared[i]);
		store->prepared[i] = NULL;
	}
	sqlite3_close(store->db);
	store->db = NULL;
}

/* A row that the schema would not have let in is damage, too. */
static int read_rows(struct store *store, struct attempt *attempt)
{
	int rc = row_list_read(&store->rows, store->prepared[LOAD], &attempt->why);

	attempt->damaged = attempt->why != NULL;
	return rc;
}

/* The log, if it may not open that for writing, SQLite opens for reading, too, and tells with the first change. So it does with
 * a file whose header has a number for writers that it does not know (https://www.sqlite.org/fileformat.html, 1.3.3). */
static int may_write(struct store *store, struct attempt *attempt)
{
	int rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE; ROLLBACK", NULL, NULL, NULL);

	if (rc == SQLITE_OK && sqlite3_db_readonly(store->db, "main") != 0) {
		attempt->damaged = true;
		attempt->why = xstrdup("its header lets nobody write");
	}
	return rc;
}

static struct attempt attempt_open(struct store *store, const char *root)
{
	struct attempt attempt = { 0 };
	int version = 0;
	int rc = open_db(store);

	if (rc == SQLITE_OK)
		rc = recognise(store, root, &attempt, &version);
	if (rc == SQLITE_OK && !attempt.why)
		rc = sqlite3_exec(store->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
		    "PRAGMA journal_size_limit = 8388608;", NULL, NULL, NULL);
	if (rc == SQLITE_OK && !attempt.why) {
		attempt.why = quick_check(store->db, version != SCHEMA_VERSION, &rc);
		attempt.damaged = attempt.why != NULL;
	}
	if (rc == SQLITE_OK && !attempt.why)
		rc = may_write(store, &attempt);
	if (rc == SQLITE_OK && !attempt.why)
		rc = migrate(store, version);
	if (rc == SQLITE_OK && !attempt.why)
		rc = prepare(store);
	if (rc == SQLITE_OK && !attempt.why)
		rc = read_rows(store, &attempt);
	if (rc != SQLITE_OK && !attempt.why)
		failed(store, &attempt, rc);
	if (attempt.why)
		close_db(store);
	return attempt;
}

static char *open_file(struct store *store, const char *root, char **ret_note)
{
	char *why = store_file_make(store->dir_fd);

	if (why)
		return why;
	struct attempt attempt = attempt_open(store, root);
	if (!attempt.damaged)
		return attempt.why;
	_cleanup_free_ char *reason = attempt.why;
	why = store_file_move_aside(store->dir_fd);
	if (!why)
		why = store_file_make(store->dir_fd);
	if (why)
		return why;
	attempt = attempt_open(store, root);
	if (!attempt.why)
		*ret_note = xasprintf("the catalog was damaged (%s): it was moved to '" PATH_CATALOG
		    ".damaged', and a new one is made from the disk", reason);
	return attempt.why;
}

struct store *store_open(int state_fd, const char *root, char **ret_why, char **ret_note)
{
	struct store *store = xcalloc(1, sizeof(*store));
	char *note = NULL;

	store_sqlite_memory();
	store_queue_init(&store->kept);
	store->requests_put = TRIM_EVERY;
	bool opened = store_exchange_init(&store->exchange) == 0;
	store->dir_fd = state_fd < 0 ? -1 : fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
	char *why = !opened || (state_fd >= 0 && store->dir_fd < 0) ?
	    xasprintf("cannot open the catalog: %s", strerror(errno)) :
	    store->dir_fd < 0 ? attempt_open(store, root).why : open_file(store, root, &note);
	if (why) {
		*ret_why = why;
		store_close(store);
		return NULL;
	}
	if (note)
		*ret_note = note;
	return store;
}

/* --- reading what is there ------------------------------------------------------------------ */

int store_load(struct store *store, void (*row)(struct environment *, void *),
    void (*request)(struct store_request *, void *), void *arg)
{
	struct attempt attempt = { 0 };
	int rc = store->rows.rows ? SQLITE_OK : read_rows(store, &attempt);

	if (attempt.why)
		log_error("%s", attempt.why);
	free(attempt.why);
	if (attempt.damaged || rc != SQLITE_OK)
		return -1;
	row_list_give(&store->rows, row, arg);
	sqlite3_stmt *stmt = store->prepared[LOAD_REQUESTS];
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
		request(row_request(stmt), arg);
	sqlite3_reset(stmt);
	sqlite3_db_release_memory(store->db);   /* pages that nobody reads again */
	return rc == SQLITE_DONE ? 0 : -1;
}

/* --- groups -------------------------------------------------------------------------------- */

/* Runs a statement whose values are bound; SQLITE_DONE becomes SQLITE_OK. */
static int run(struct store *store, enum statement what)
{
	sqlite3_stmt *stmt = store->prepared[what];
	int rc = sqlite3_step(stmt);

	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int run_op(struct store *store, const struct store_op *op)
{
	enum statement what = (enum statement)op->kind;
	sqlite3_stmt *stmt = store->prepared[what];

	if (what == PUT)
		row_bind(stmt, op->env);
	else if (what == DROP || what == DROP_REQUEST)
		row_bind_text(stmt, 1, op->id);
	else if (what == DROP_REQUESTS)
		sqlite3_bind_int64(stmt, 1, op->older_than_us);
	int rc = what == PUT_REQUEST ? SQLITE_OK : run(store, what);
	if (rc != SQLITE_OK || !op->request)
		return rc;
	row_bind_request(store->prepared[PUT_REQUEST], op->request);
	store->requests_put++;
	return run(store, PUT_REQUEST);
}

static int trim_requests(struct store *store)
{
	if (store->requests_put < TRIM_EVERY)
		return SQLITE_OK;
	store->requests_put = 0;
	sqlite3_bind_int64(store->prepared[TRIM_REQUESTS], 1, LIMIT_REQUESTS_KEPT);
	return run(store, TRIM_REQUESTS);
}

/* The file (the catalog) or the journal (its log), as SQLite has it open; NULL: there is none. */
static sqlite3_file *open_file_of(sqlite3 *db, int which)
{
	sqlite3_file *file = NULL;

	return sqlite3_file_control(db, NULL, which, &file) == SQLITE_OK && file && file->pMethods ? file : NULL;
}

/* The errno of the last system call that failed on it; sqlite3_system_errno() does not know it after a commit. */
static int last_errno(sqlite3 *db, int which)
{
	sqlite3_file *file = open_file_of(db, which);
	int error = 0;

	if (file)
		file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
	return error;
}

/* A quota is a full disk too; SQLite calls it an I/O error. */
static bool is_full(sqlite3 *db, int rc)
{
	return (rc & 0xff) == SQLITE_FULL || (rc == SQLITE_IOERR_WRITE &&
	    (last_errno(db, SQLITE_FCNTL_JOURNAL_POINTER) == EDQUOT ||
	    last_errno(db, SQLITE_FCNTL_FILE_POINTER) == EDQUOT));
}

/* What is neither success nor a full disk cannot be lived with: the disk or the file is broken, memory is gone, or we
 * have a bug. Damage that only a write meets would end the next daemon as well: that one begins a new file. */
static void die_unless_full(struct store *store, int rc, const char *doing)
{
	if (rc == SQLITE_OK || is_full(store->db, rc))
		return;
	log_error("the catalog failed in %s: %s (%d, errno %d)", doing,
	    sqlite3_errmsg(store->db), rc, last_errno(store->db, SQLITE_FCNTL_JOURNAL_POINTER));
	if (is_damage(rc) && store->dir_fd >= 0) {
		char *why = store_file_move_aside(store->dir_fd);
		log_error("%s", why ? why : "it was moved to '" PATH_CATALOG ".damaged', and the next start makes a new one");
	}
	abort();
}

static bool commit_group(struct store *store, const struct store_queue *group)
{
	int rc = run(store, BEGIN);

	for (const struct store_op *op = group->first; rc == SQLITE_OK && op; op = op->next)
		rc = run_op(store, op);
	if (rc == SQLITE_OK)
		rc = trim_requests(store);
	if (rc == SQLITE_OK)
		rc = run(store, COMMIT);
	die_unless_full(store, rc, "a commit");
	if (rc == SQLITE_OK)
		return true;
	store->log_lengthened = false;  /* once there is room */
	log_error("the catalog cannot be written: the disk is full");
	if (!sqlite3_get_autocommit(store->db))
		die_unless_full(store, run(store, ROLLBACK), "a rollback");
	return false;
}

/* The log into the file. A full disk (false) only means that the log stays longer. */
static bool checkpoint(struct store *store, int mode)
{
	store->log_pages = 0;
	int rc = sqlite3_wal_checkpoint_v2(store->db, NULL, mode, NULL, NULL);
	die_unless_full(store, rc, "a checkpoint");
	return rc == SQLITE_OK;
}

/* The log keeps its room beyond our end: on a disk that is full by then, the next start could make none. True: nothing
 * is in it that the file has not. */
static bool keep_log(struct store *store)
{
	int yes = 1;
	bool empty = checkpoint(store, SQLITE_CHECKPOINT_FULL);

	sqlite3_exec(store->db, "PRAGMA journal_size_limit = -1;", NULL, NULL, NULL);
	sqlite3_file_control(store->db, NULL, SQLITE_FCNTL_PERSIST_WAL, &yes);
	return empty;
}

/* Zeros behind what is in the log; they end it for whoever reads it after a crash. A commit into a file that is long
 * enough changes no size and no extent: the file system has nothing to put into its own journal, which is half of
 * what a commit costs. It finds its room on a full disk, too. */
static void lengthen_log(struct store *store)
{
	static const char zeros[64 * 1024];
	sqlite3_file *log = open_file_of(store->db, SQLITE_FCNTL_JOURNAL_POINTER);
	sqlite3_int64 before = 0;

	store->log_lengthened = true;
	if (!log)
		return;
	int rc = log->pMethods->xFileSize(log, &before);
	for (sqlite3_int64 at = before; rc == SQLITE_OK && at < LOG_BYTES; at += (int)sizeof(zeros))
		rc = log->pMethods->xWrite(log, zeros, (int)sizeof(zeros), at);
	if (rc == SQLITE_OK)
		rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
	else if (is_full(store->db, rc))
		log->pMethods->xTruncate(log, before);  /* what is left is not ours alone */
	die_unless_full(store, rc, "making its log longer");
}

static void *store_thread(void *arg)
{
	struct store *store = arg;
	struct store_queue group, done;

	store_queue_init(&group);
	store_queue_init(&done);
	while (store_exchange_take(&store->exchange, &group)) {
		struct store_queue all;
		store_queue_init(&all);
		store_queue_move(&all, &store->kept);
		store_queue_move(&all, &group);
		bool ok = commit_group(store, &all);
		store_queue_settle(&all, ok, &done, &store->kept, KEPT_MAX);
		store_exchange_give(&store->exchange, &done);
		/* Nobody waits for this: what it moves is safe already. */
		if (store->log_pages >= CHECKPOINT_PAGES)
			checkpoint(store, SQLITE_CHECKPOINT_PASSIVE);
		else if (ok && !store->log_lengthened)
			lengthen_log(store);
	}
	return NULL;
}

/* --- the loop's side ----------------------------------------------------------------------- */

void store_start(struct store *store)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&store->thread, NULL, store_thread, store);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		log_error("cannot start the catalog's thread: %s", strerror(error));
		abort();
	}
	store->started = true;
}

int store_fd(const struct store *store)
{
	return store->exchange.event_fd;
}

void store_put(struct store *store, const struct environment *env, store_done_fn *done, void *arg)
{
	store_put_both(store, env, NULL, done, arg);
}

void store_put_both(struct store *store, const struct environment *env,
    const struct store_request *request, store_done_fn *done, void *arg)
{
	struct store_op *op = store_op_new(STORE_OP_PUT, done, arg);

	op->env = environment_copy(env);
	op->request = request ? store_request_copy(request) : NULL;
	store_exchange_add(&store->exchange, op);
}

void store_drop(struct store *store, const char *id, const struct store_request *request, store_done_fn *done, void *arg)
{
	struct store_op *op = store_op_new(STORE_OP_DROP, done, arg);

	op->id = xstrdup(id);
	op->request = request ? store_request_copy(request) : NULL;
	store_exchange_add(&store->exchange, op);
}

void store_put_request(struct store *store, const struct store_request *request, store_done_fn *done, void *arg)
{
	struct store_op *op = store_op_new(STORE_OP_PUT_REQUEST, done, arg);

	op->request = store_request_copy(request);
	store_exchange_add(&store->exchange, op);
}

void store_drop_request(struct store *store, const char *id)
{
	struct store_op *op = store_op_new(STORE_OP_DROP_REQUEST, NULL, NULL);

	op->id = xstrdup(id);
	store_exchange_add(&store->exchange, op);
}

void store_drop_requests(struct store *store, int64_t older_than_us)
{
	struct store_op *op = store_op_new(STORE_OP_DROP_REQUESTS, NULL, NULL);

	op->older_than_us = older_than_us;
	store_exchange_add(&store->exchange, op);
}

void store_deliver(struct store *store)
{
	struct store_op *op;

	if (!store_exchange_awake(&store->exchange))
		return;
	while ((op = store_exchange_next(&store->exchange))) {
		op->done(op->ok, op->arg);
		store_op_free(op);
	}
}

bool store_idle(const struct store *store)
{
	return store_exchange_idle((struct store_exchange *)&store->exchange);
}

/* On the caller's thread, when there is no other (any more). True if something was written. */
static bool write_rest(struct store *store)
{
	struct store_queue group;

	store_queue_init(&group);
	store_queue_move(&group, &store->kept);
	store_queue_move(&group, &store->exchange.queue);
	if (!group.first)
		return false;
	bool ok = commit_group(store, &group);
	store_queue_settle(&group, ok, &store->exchange.done, &store->kept, KEPT_MAX);
	return ok;
}

void store_close(struct store *store)
{
	struct store_op *op;
	bool log_is_empty = false;

	if (!store)
		return;
	if (store->started) {
		store_exchange_stop(&store->exchange);
		pthread_join(store->thread, NULL);
		store_deliver(store);
	}
	if (store->db) {
		/* The callbacks may have put more, and may again. */
		while (write_rest(store))
			store_deliver(store);
		store_deliver(store);
		log_is_empty = store->dir_fd >= 0 && keep_log(store);
	}
	while ((op = store_queue_take(&store->kept)) || (op = store_queue_take(&store->exchange.queue)))
		store_op_free(op);
	close_db(store);
	row_list_done(&store->rows);
	if (log_is_empty)
		store_file_empty_log(store->dir_fd);
	if (store->dir_fd >= 0)
		close(store->dir_fd);
	store_exchange_done(&store->exchange);
	free(store);
}
