/* SPDX-License-Identifier: MIT */
/*
 * What the daemon asks of a venvd-worker, and what comes back. Frames as on the client's wire (JSON,
 * NUL; at most LIMIT_WORKER_FRAME), over a socketpair. Both sides are of one build: no versions, no
 * liberal reading; a worker that reads something else exits 1.
 *
 * Start: argv "venvd-worker resident" or "venvd-worker order"; descriptors as below; everything else is
 * closed. stdin and stdout are /dev/null, stderr is the daemon's log. "order" sets nice 10 and idle I/O
 * unless its order has starting:true: nobody is served before the orders of a start are done.
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
 *     Where path stands in one of these, the environment is there instead of at NAME in the root.
 * trash    {name, ino, btime, entry, record:{...}, path|absent}
 *          makes trash/ENTRY/, writes record.json and pushes it out, then renames NAME to trash/ENTRY/tree
 *          -> {}   NoSuchEnvironment if NAME is gone or is another; Unsupported on EXDEV (the entry is
 *          taken away again; reason says that this file system cannot move it)
 *          With path, here and in restore, the entry is in the trash beside it (PATH_BESIDE in its directory),
 *          which is made and taken away as it is needed.
 * restore  {entry, name, ino, btime, path|absent, makeWay:true|absent: an empty directory there is taken away}
 *          renameat2(trash/ENTRY/tree -> NAME, NOREPLACE), then takes the rest of the entry away
 *          -> {left:true if that could not go|absent}   AlreadyExists {name}; NotInTrash {name}
 * discard  {name, ino, btime, entry, path|absent}
 *          a reservation or half-made tree: NAME, if it is that inode, goes to stage/ENTRY; stage/ENTRY is
 *          left for a purge. Nothing there counts as done. -> {}
 *
 * inuse    {name, at, elsewhere:bool, caller: pid or 0}
 *          which processes run from the environment, whose absolute path is at; never the caller and those above it. One
 *          look for all of a batch. -> {processes:[{pid, command},...], standing:[...], more:N, others:[...],
 *          othersMore:N}
 *          processes: at most LIMIT_IN_USE, more: beyond them; standing: those that stand in it, and shells that
 *          have it activated; others: of one elsewhere, the names of what is no part of an environment there, some of them.
 *
 * look     {names:[...]} -> {found:[[name, ino, btime],...]}     of the root; ino 0: no directory or link is there
 *
 * claim    {name, entry, path, options, search, probeMs, caller, resolved|absent}
 *          makes an environment from what is prepared and publishes it by one rename. path is the absolute
 *          path it will have (ROOT/NAME); it is built as stage/ENTRY. options and search: see below.
 *          It never starts a child and asks no interpreter: what is not known and prepared is a miss. probeMs is for
 *          the orders that bring it.
 *          frames: reserved {ino, btime, interpreter:{as below}, reason, warnings:[...]|absent, image, bucket,
 *                  left:N, order:{...}}. stage/ENTRY is that directory; left: entries that the bucket still
 *                  has; order: the order that fills it (see miss). Then it waits for
 *                  {"id":N,"go":true|false}: true: the intent row is on the disk; false: stage/ENTRY stays
 *                  for a purge, and the answer is Cancelled.
 *          -> {environment:{as inspect}} once it and the root are synced
 *          -> {miss:"interpreter"|"image"|"entry", key, order:{...}}: the long order that brings what is
 *             missing, complete but for "id", "linkMode", "count"; after it the same claim is given again. key:
 *             orders of the same key bring the same; "" for none. Nothing is left in the stage.
 *             The answer of a resolve comes with the next claim, as `resolved`: what is behind a shim is not
 *             remembered, and what was answered to this one need not be looked for again.
 *          -> {miss:"place", reason}: the interpreter's own venv must make it (order create)
 *          AlreadyExists {name}. A claim is never given to a second worker: after a crash the daemon discards.
 *          With replaces:{ino, btime, trash:ENTRY2, record:{...}} (recreate): after "go" trash/ENTRY2/ is made with
 *          its synced record.json, NAME (of that identity) goes to trash/ENTRY2/tree, and stage/ENTRY to NAME; if
 *          that fails NAME is put back. NoSuchEnvironment if NAME is gone or is another.
 *
 * options (of create, claim, image, fill): {withoutPip, systemSitePackages, copies, withoutScmIgnoreFiles: bools;
 *          prompt|null; python:[SPEC,...] (empty: none was given)} and for create alone
 *          {clear, upgrade, upgradeDeps: bools}
 * search   {dirs:[absolute path,...], managedFirst:bool}: from the configuration
 * interpreter as a frame's value: {path, executable, implementation, version, source, state}
 *          state: "usable"; "delegate" (its verification failed: its own venv is always run)
 *
 * --- order: exactly one, then EOF.
 * create   {name, entry, root, path, elsewhere:bool, options, search, probeMs, caller}
 *          In place, by the interpreter's own venv (or virtualenv for those without a venv module).
 *          frames, in this order:
 *            progress {stage:"interpreter"}    the specification is resolved, the interpreter asked
 *            progress {stage:"reserve"}        stage/ENTRY is made with 0777 & ~umask
 *            reserved {ino, btime, interpreter, reason, warnings}
 *                     then it waits for {"id":N,"go":true}: the intent row is on the disk
 *            progress {stage:"build"}          renamed NOREPLACE to NAME; the interpreter's own venv runs
 *            progress {stage:"sync"}           everything is pushed to the disk
 *          -> {environment:{as inspect}, creator}   errors: NoSuchInterpreter, UnsafeInterpreter,
 *          InterpreterFailed, NoEnsurepip, AlreadyExists, Unsupported, NoSpace, Failed. Before "go" the worker
 *          takes its stage/ENTRY away itself; after it the daemon sends the resident a discard.
 *          With options.clear or options.upgrade, or elsewhere: path is used as it is, there or not, as
 *          python -m venv does (its refusals are Failed with its own sentence); no stage; "reserved" has
 *          ino and btime of the directory, and made:true if it was not there before. What was made is then
 *          taken away by the worker itself when it fails or is cancelled, before its socket closes.
 *          Unsupported may carry "command": what installs the virtualenv that an old interpreter needs.
 * clone    {name, entry, path, source, linkMode: as for fill, or absent: auto}      path: the absolute path it will have
 *          source: {name, ino, btime, paths:[absolute,...], trash: ENTRY|absent, location: absolute path|absent}:
 *          the environment, where it lies, and its paths as its files may spell them
 *          frames: progress {stage:"copy"}, {stage:"sync"}; reserved {ino, btime} of stage/ENTRY, complete; then it
 *          waits for {"id":N,"go":true}, and renames it to NAME
 *          -> {environment:{as inspect}}  NoSuchEnvironment, AlreadyExists, Unsupported, NoSpace, Failed
 * rename   {name, entry, path, source}       of a source in the root or its trash, to NAME
 *          frames: reserved {}: stage/ENTRY holds the new files and a journal; then it waits for "go"
 *          -> {environment:{as inspect}, left:bool: as for restore}. After any error, and after a crash, a settle is due.
 * settle   {entry}     goes back what a rename has done before it came to the tree itself
 *          -> {renamed:bool: the tree has its new name, from, to, ino, btime: as in the journal, if there is one}
 * diagnose {environments:[{path, source},...]}       path: the absolute path of each; source: as for clone
 *          frames: diagnosis {name, findings:[as the IDL's Finding], mapped:[{pid, command},...]}, one each; findings and mapped
 *          are absent if it is gone -> {}
 * repair   {path, source, search, probeMs, caller}    mends what is repairable, in place
 *          frames: progress {stage:"repair"}, {stage:"sync"}
 *          -> {environment:{as inspect}, repaired:[findings that were], remaining:[findings]}
 * resolve  {search, python:[SPEC,...], probeMs, caller}   asks, and remembers the answer
 *          -> {interpreter, reason, rule, warnings}  errors as create
 * image    {python: absolute path, withoutPip, probeMs, caller, linkMode}
 *          makes the image of this installation, verifies it, and puts it to images/KEY; one that is there is
 *          left as it is -> as one of scan's frame pool, fresh:true if it was made by this order
 * fill     {image, bucket, umask, copies: absolute path|null, count, linkMode, verify:bool}
 *          count entries, complete but for the path-bearing files, synced, then renamed to
 *          pool/BUCKET/ENTRY -> {made:N, bytes: of one, how:"reflink"|"hardlink"|"copy"|absent} or {damaged:reason}: the
 *          image is not what its manifest says (verify: also by content) and was taken away, with its buckets.
 * evict    {buckets:[{bucket, keep:N},...], images:[KEY,...]}   moved to the stage and removed -> {removed:N}
 * packages {name | trash: ENTRY | path}     read from dist-info, no Python is run
 *          -> {packages:[{name, version, directUrl|absent, editable:true|absent}]}
 * python   {verb:"add"|"remove", path, probeMs, caller} -> {interpreter} or {}
 * purge    {where:"trash"|"stage", entries:[...], path|absent, prefix|absent}
 *          trash: each first renamed to stage/ENTRY and the root synced; then removed, flat, never through a
 *          link or over a mount -> {removed:N, kept:[reason...]}
 *          stage, with prefix: also what begins so (PATH_STAGE_WORKER).
 *          With path: the first entry, of the trash beside that; its tree is renamed to PATH_REST there. What
 *          cannot be removed is an error then.
 * purge-name {name, ino, btime, entry, path|absent}            delete --now
 *          to stage/ENTRY, root synced, removed; where it cannot be renamed (EXDEV), removed in place -> {}
 * scan     {}   names only, no stat of an environment
 *          frames: names {names:"INO NAME/INO NAME/..."} (directories and links; names that
 *          begin with '.' are left out; a name that is not UTF-8 has its bytes as \xNN text),
 *          trash {entries:[{entry, ino, btime, record:{}|null, tree:true|false}]}, stage {entries:[...names]}
 *          pool {buckets:[{bucket, image, entries:N}], images:[{image, usedAt:us, bytes, python, version,
 *          delegate:reason|absent}]}
 *          -> {truncated:true|absent}
 * inspect  {names:[...], paths:[absolute path,...]|absent, known:"MARK NAME/MARK NAME/..."|absent}   frames: environments {environments:[{...}]}
 *          (up to 64 each); "name" of one that was asked for by path is that path
 *          each: name, kind ("environment", "foreign", "other", "absent"), ino, btime, and for the first two
 *          what was found of: problem (broken, or why foreign), creator, implementation, version, prompt,
 *          project, systemSitePackages, pip, interpreter, executable (relative to the environment's
 *          directory: "bin/python"), createdAt (us). "broken":true with problem when it cannot work.
 *          looked: the mark of what was looked into; absent where no mark can tell that nothing has changed. A known
 *          one whose mark is what it was, and whose interpreter is there, is not looked into, and nothing is said
 *          of it. -> {}
 * interpreters {caller, probeMs, search}
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
	"PYENV_ROOT", "PYENV_VERSION", "UV_PYTHON_INSTALL_DIR", "CONDA_PREFIX", "ASDF_DATA_DIR", "MISE_DATA_DIR", \
	"XDG_DATA_HOME"

/* With one of these set a Python writes other bytecode, so its own venv must do it (facts: CPython 3.10+). */
#define ORDER_BYTECODE_VARIABLES "SOURCE_DATE_EPOCH", "PYTHONPYCACHEPREFIX", "PYTHONOPTIMIZE"

/* linkMode, of images into entries. auto: reflink, else hard link, else copy. */
#define ORDER_LINK_MODES "auto", "reflink", "hardlink", "copy"
#endif
