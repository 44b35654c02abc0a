/* SPDX-License-Identifier: MIT */
/*
 * What the daemon asks of a venvd-worker, and what comes back. Frames as on the client's wire (JSON,
 * NUL; at most LIMIT_WORKER_FRAME), over a socketpair. Both sides are of one build: no versions, no
 * liberal reading; a worker that reads something else exits 1.
 *
 * Start: argv "venvd-worker resident" or "venvd-worker order"; descriptors as below; everything else is
 * closed. stdin and stdout are /dev/null, stderr is the daemon's log. "order" sets nice 10 and idle I/O.
 * A worker ends (exit 0) when its socket says EOF: it first kills the process group of its child and
 * reaps every descendant (it is a subreaper).
 *
 * Order: {"id":N,"op":"...",...}   Answer: zero or more {"id":N,"frame":"KIND",...}, then exactly one
 * {"id":N,"done":true,...} or {"id":N,"done":true,"error":"io.venvd.X","parameters":{...}}, whose
 * error and parameters the daemon hands on to the client unchanged.
 * With "syncFailed":true in it a sync has failed: the daemon aborts, and the next start looks at the disk.
 *
 * Identity: "ino" and "btime" (birth time in ns; 0 where the file system has none) as integers; a tree
 * is touched only if both equal what the order says. btime 0 in an order matches any.
 *
 * --- resident: reads all orders that wait, does them, ONE fsync of the root, then answers all. Every
 *     one can be repeated after a crash: what is done already counts as done.
 * trash    {name, ino, btime, entry, record:{...}}
 *          makes trash/ENTRY/, writes and syncs record.json, then renames NAME to trash/ENTRY/tree
 *          -> {}   NoSuchEnvironment if NAME is gone or is another; Unsupported on EXDEV (the entry is
 *          taken away again; reason says that this file system cannot move it)
 * restore  {entry, name, ino, btime}
 *          renameat2(trash/ENTRY/tree -> NAME, NOREPLACE), then takes the rest of the entry away
 *          -> {}   AlreadyExists {name}; NotInTrash {name}
 * discard  {name, ino, btime, entry}
 *          a reservation or half-made tree: NAME, if it is that inode, goes to stage/ENTRY; stage/ENTRY is
 *          left for a purge. Nothing there counts as done. -> {}
 *
 * --- order: exactly one, then EOF.
 * create   {name, entry, root, python|null, withoutPip, systemSitePackages, prompt|null, probeMs,
 *           caller:{cwd|null, path|null, umask|null, environment:{}}}
 *          frames, in this order:
 *            progress {stage:"interpreter"}    the specification is resolved, the interpreter asked
 *            progress {stage:"reserve"}        stage/ENTRY is made with 0777 & ~umask
 *            reserved {ino, btime, interpreter:{path, executable, implementation, version, source}, reason}
 *                     then it waits for {"id":N,"go":true}: the intent row is on the disk
 *            progress {stage:"build"}          renamed NOREPLACE to NAME; the interpreter's own venv runs
 *            progress {stage:"sync"}           everything is pushed to the disk
 *          -> {environment:{as inspect}}   errors: NoSuchInterpreter, UnsafeInterpreter, InterpreterFailed,
 *          NoEnsurepip, AlreadyExists, Unsupported, NoSpace, Failed. Before "go" the worker takes its
 *          stage/ENTRY away itself; after it the daemon sends the resident a discard.
 * purge    {where:"trash"|"stage", entries:[...]}
 *          trash: each first renamed to stage/ENTRY and the root synced; then removed, flat, never through a
 *          link or over a mount -> {removed:N, kept:[reason...]}
 * purge-name {name, ino, btime, entry}            delete --now
 *          to stage/ENTRY, root synced, removed; where it cannot be renamed (EXDEV), removed in place -> {}
 * scan     {}   names only, no stat of an environment
 *          frames: names {names:[[name, ino, kind],...]} (up to 512 each; kind "dir" or "link"; names that
 *          begin with '.' and files are left out; a name that is not UTF-8 has its bytes as \xNN text),
 *          trash {entries:[{entry, ino, btime, record:{}|null, tree:true|false}]}, stage {entries:[...names]}
 *          -> {truncated:true|absent}
 * inspect  {names:[...]}   frames: environments {environments:[{...}]} (up to 64 each)
 *          each: name, kind ("environment", "foreign", "other", "absent"), ino, btime, and for the first two
 *          what was found of: problem (broken, or why foreign), creator, implementation, version, prompt,
 *          project, systemSitePackages, pip, interpreter, executable (relative to the environment's
 *          directory: "bin/python"), createdAt (us). "broken":true with problem when it cannot work. -> {}
 * interpreters {caller, probeMs}
 *          frames: interpreter {interpreter:{as the IDL's}} -> {}
 * purge-state {}   removes everything in PATH_STATE and PATH_STATE itself, the lock last -> {}
 */
#ifndef VENVD_ORDERS_H
#define VENVD_ORDERS_H

enum worker_fd {
	WORKER_FD_ORDERS = 3,   /* the socketpair */
	WORKER_FD_ROOT = 4,     /* the root directory */
	WORKER_FD_STATE = 5,    /* ROOT/.venvd; closed for a daemon that only looks ('venvd --peek') */
	WORKER_FD_LOCK = 6      /* the lock's open file description, held as long as the worker lives */
};

/* The caller's variables that reach a Python child; everything else is built anew. A name that ends
 * in '*' is a prefix, one that begins with '*' a suffix. */
#define ORDER_CALLER_VARIABLES \
	"LD_LIBRARY_PATH", "OPENSSL_CONF", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", \
	"*_proxy", "*_PROXY", "PIP_*", "SOURCE_DATE_EPOCH", "PYTHONPYCACHEPREFIX", "PYTHONOPTIMIZE", \
	"PYENV_ROOT", "PYENV_VERSION"
#endif
