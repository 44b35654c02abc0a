/* SPDX-License-Identifier: MIT */
/* What -p/--python says: a path, a version, or a name. Works on text alone. */
#ifndef VENVD_WORKER_SPEC_H
#define VENVD_WORKER_SPEC_H
#include <stdbool.h>
#include <stddef.h>

#define SPEC_CLAUSES 8
#define SPEC_NAMES 64
#define SPEC_NAME_BYTES 32

struct spec_version {
	int count;              /* of the numbers that were given; 0: none */
	int numbers[3];         /* those not given are 0 */
	char level;             /* 'a', 'b', 'r', 'd' (a -dev of pyenv); 0: final, or not said */
	int serial;
};

enum spec_op { SPEC_EQ, SPEC_NE, SPEC_GE, SPEC_GT, SPEC_LE, SPEC_LT, SPEC_COMPATIBLE };

struct spec_clause {
	enum spec_op op;
	struct spec_version version;
};

struct spec {
	enum { SPEC_NAME, SPEC_PATH, SPEC_VERSION } kind;
	char text[256];                 /* without the blanks around it, for names; cut if longer */
	/* Of SPEC_VERSION: */
	const char *implementation;     /* constant: "cpython", "pypy", "graalpy"; NULL: whichever */
	struct spec_version version;    /* the numbers that it begins with */
	struct spec_clause clauses[SPEC_CLAUSES];
	size_t clause_count;
	bool free_threaded, gil, debug; /* asked for */
	int bits;                       /* 32 or 64; 0: whichever */
};

/* What is known of an interpreter, or guessed from the name of its directory. */
struct spec_candidate {
	const char *implementation;     /* constant or borrowed */
	struct spec_version version;
	bool free_threaded, debug;
	int bits;                       /* 0: not known */
};

/* Anything is one: what is neither a path nor a version is a name. */
void spec_parse(const char *text, struct spec *ret);
/* "3.12.1", "3.14.0rc1" */
bool spec_version_parse(const char *text, struct spec_version *ret);

/* <0, 0, >0; numbers that were not given count as 0. */
int spec_compare(const struct spec_version *, const struct spec_version *);
bool spec_fits(const struct spec *, const struct spec_candidate *);
/* One that fits, and is not of a kind (pre-release, free-threaded, another implementation, debug) that is only
 * taken when it was asked for or when there is nothing else. */
bool spec_prefers(const struct spec *, const struct spec_candidate *);

/* The file names under which one could lie in a directory of programs, the most telling first. others: those of
 * implementations that were not asked for, too. */
size_t spec_names(const struct spec *, bool others, char ret[SPEC_NAMES][SPEC_NAME_BYTES]);

/* The version that a directory of pyenv, uv, asdf, mise is named for: "3.12.1", "pypy3.9-7.3.11",
 * "cpython-3.13.0+freethreaded-linux-x86_64-gnu". ret->implementation is constant. */
bool spec_read_installation(const char *name, struct spec_candidate *ret);
/* Whether an installation so named could fit: false only if it surely does not. */
bool spec_may_fit(const struct spec *, const struct spec_candidate *guess);
/* Order of preference among installations: <0 if a comes first. */
int spec_rank(const struct spec_candidate *a, const struct spec_candidate *b);
#endif
