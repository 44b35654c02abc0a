/* SPDX-License-Identifier: MIT */
/*
 * One environment as the daemon knows it. Plain data, no pointers to other rooms: a copy of it is what
 * crosses to the store thread. All strings are owned; NULL = unknown. Those that are `const` are words (word.h): many
 * environments share them, and word_set() changes them. There may be 100,000: a member more is a megabyte.
 */
#ifndef VENVD_ENVIRONMENT_H
#define VENVD_ENVIRONMENT_H
#include <jansson.h>
#include <stdint.h>
#include "util.h"
#include "word.h"

enum __attribute__((packed)) environment_state { /* in the IDL's order */
	STATE_CREATING, STATE_READY, STATE_BROKEN, STATE_MISSING, STATE_TRASHED, STATE_FOREIGN,
	STATE_COUNT
};

/* What a row says is under way; what reconcile finishes or rolls back. Only in the catalog. */
enum __attribute__((packed)) environment_intent {
	INTENT_NONE, INTENT_CREATE, INTENT_DELETE, INTENT_PURGE,
	INTENT_CLAIM,           /* a directory of this identity at its name is complete */
	INTENT_REBUILD          /* in place, in a directory that is not ours to take away: --clear, --upgrade, elsewhere */
};

/* Bits of a `fields` selection; environment_field_bit() knows the names. */
typedef uint32_t environment_fields;
#define FIELDS_ALL ((environment_fields)~0u)

struct environment {
	char id[17];
	enum environment_state state;
	enum environment_intent intent;
	int8_t system_site_packages;    /* -1 unknown, 0, 1 */
	int8_t pip;                     /* -1 unknown, 0, 1 */
	int8_t protected;               /* 0, 1: is not deleted */
	/* Of the index alone, never stored, not copied, as are those at the end: */
	enum environment_state counted; /* what it is counted as */
	bool unseen : 1;                /* only the catalog has told of it: it is looked into after the start (catchup.h) */
	bool unrecorded : 1;            /* adopted by the start: its row is yet to be written (catchup.h) */
	bool restoring : 1;             /* its row says that it was being restored (method_delete.c) */

	char *name;
	int64_t ino, btime_ns;          /* the directory it is; ino 0: none yet */
	const char *executable;         /* relative: "bin/python" */
	const char *interpreter;
	const char *implementation;
	const char *version;
	const char *prompt;
	const char *project;
	const char *origin;             /* "created", "adopted" */
	const char *creator;            /* "venv", ... */
	int64_t created_at, deleted_at, expires_at, missing_since; /* us, 0 = none */
	const char *problem;
	char *entry;                    /* trashed: NAME~TIME~ID, its directory in the trash */
	char *location;                 /* absolute path of one outside the root (create --path); NULL: ROOT/NAME */
	const char *options;            /* what it was made with: the IDL's Options as compact JSON; NULL: unknown */
	char *new_name;                 /* the one that it is being given by a rename under way; NULL */

	int64_t looked;                 /* the mark of what was last looked into (orders.h); 0: it is to be looked into */

	const void *busy;               /* the operation that owns this name now; NULL = none */
	uint64_t touched;               /* when one last began or ended with it (operation_moment()); 0: none has had it */
	struct environment *next;       /* in the index's hash */
	struct node *node;              /* its place in the trash's order; NULL while it is live */
};

struct environment *environment_new(const char *name);          /* a fresh id, state creating */
struct environment *environment_empty(void);                    /* without id and name: both are to come */
struct environment *environment_copy(const struct environment *);
/* Everything that is not the index's becomes what it is in from, which has the same id and name. */
void environment_assign(struct environment *, const struct environment *from);
void environment_free(struct environment *);

const char *environment_state_name(enum environment_state);
int environment_state_from_name(const char *);                  /* -1 if unknown */

/* The bit of a field of the IDL's Environment; 0 if there is none of this name. */
environment_fields environment_field_bit(const char *name);

/* Appends {"name":...} with the selected fields in the IDL's order, without jansson (lists are long).
 * root is the root's path. Unknown values are left out. */
void environment_add_json(struct text *out, const struct environment *, const char *root,
    environment_fields fields);
/* The same as a value, owned. */
json_t *environment_to_json(const struct environment *, const char *root, environment_fields fields);

/* Takes over what a worker's inspect (see orders.h) found: identity, state ready/broken/foreign and all
 * details; id, name, origin, intent stay; created_at is taken only when it is 0. True if anything that
 * the catalog stores has changed. */
bool environment_take_inspection(struct environment *, const json_t *inspection);

/* What a trash entry's record.json says: everything needed to make the row again. */
json_t *environment_to_record(const struct environment *);                      /* owned */
struct environment *environment_from_record(const json_t *record);              /* NULL if unfit */
bool environment_options_fit(const char *text);  /* whether it is what the IDL's Options may be, as JSON */
#endif
