/* SPDX-License-Identifier: MIT */
/* The table of methods: which function answers which call, after the call fits the interface. */
#ifndef VENVD_METHOD_H
#define VENVD_METHOD_H
#include "environment.h"
#include "request.h"
#include "venvd.h"

/* A method answers the request or parks it; the request's parameters fit the interface. */
typedef void method_fn(struct venvd *, struct request *);

/* Parses both embedded descriptions and matches them with the table; a gap on either side aborts. */
struct interfaces *interfaces_new(void);
void interfaces_free(struct interfaces *);

void method_dispatch(struct request *);
method_fn method_again;         /* the same, of one that has waited for something */

/* method_service.c: org.varlink.service, Status, Shutdown */
method_fn method_get_info, method_get_interface_description, method_status, method_shutdown;
/* method_read.c: what the index answers */
method_fn method_list, method_list_trash, method_get, method_prompt;
/* method_create.c */
method_fn method_create;
/* method_delete.c */
method_fn method_delete, method_restore;
/* method_protect.c */
method_fn method_protect;
/* method_clone.c */
method_fn method_clone;
/* method_rename.c */
method_fn method_rename;
/* Restore of env, which is in the trash and nobody's, as `to`, which is free. */
void rename_restore(struct venvd *, struct request *, struct environment *env, const char *to);
/* method_trash.c */
method_fn method_empty_trash;
/* events.c */
method_fn method_watch;
/* method_adopt.c */
method_fn method_adopt;
/* method_doctor.c */
method_fn method_diagnose, method_repair;
/* method_python.c */
method_fn method_list_interpreters, method_find_interpreter, method_add_interpreter, method_remove_interpreter;
/* method_recreate.c */
method_fn method_recreate;

/* Shared by methods: the error for an unfit name, answered; true if it was. */
bool method_refuse_name(struct request *, const char *name);
/* A parameter longer than its limit, answered; true if it was. */
bool method_refuse_length(struct request *, const char *parameter, size_t max);
/* A caller that no process could have: unbounded texts, no real umask. Answered; true if it was. */
bool method_refuse_caller(struct request *);
/* Orders cannot carry the paths of its environments. Answered; true if it was. */
bool method_refuse_root(const struct venvd *, struct request *);
/* Its path from now on is without what means nothing: "//", ".", "..", a slash at the end. Before its id is looked up. */
void method_plain_path(struct request *);
/* 'path' that is no absolute one outside the root; one that has a name already, other than this one (NULL: any). Answered;
 * true if it was. (method_create.c) */
bool method_refuse_path(const struct venvd *, struct request *);
bool method_refuse_named(const struct venvd *, struct request *, const char *name);
/* Prompts of several lines; specifications that are too many or too long. Answered; true if it was. */
bool method_refuse_prompt(struct request *);
bool method_refuse_python(struct request *);
/* 'python' and 'pythonAlternatives' as orders take them: an array, owned. */
json_t *method_python_specs(const struct request *);
/* What a method that changes something checks first: ending, only looking, root moved. Answered; true if so. */
bool method_refuse_change(struct venvd *, struct request *);
/* The caller as workers take it (orders.h): every key there, perhaps null. Owned. */
json_t *method_caller(const struct request *);
/* The `search` object of orders.h, from the configuration. Owned. */
json_t *method_search(const struct venvd *);
/* More specifications than LIMIT_SPECS, or too long a one, answered; true if so. (method_python.c) */
bool method_refuse_specs(struct request *, const char *parameter);
/* {"environment": ...}, owned. */
/* Adds to a reply's warnings, of which there are NULL before the first and so many at most. text may be NULL. */
void method_warn(json_t **warnings, const char *text);
json_t *method_environment(const struct venvd *, const struct environment *);
#endif
