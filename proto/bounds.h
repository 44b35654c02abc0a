/* SPDX-License-Identifier: MIT */
/*
 * Every number that somebody outside could push, in one place. A test reaches each of them
 * (tests/e2e/test_limits.py, tests/unit). Those that 'venvd -o KEY=VALUE' can set have their key and
 * range in daemon/config.c; what stands here is then the default.
 */
#ifndef VENVD_BOUNDS_H
#define VENVD_BOUNDS_H

/* The wire, towards clients. */
#define LIMIT_FRAME_BYTES     (64 * 1024)   /* one call, without its NUL */
#define LIMIT_JSON_DEPTH      16            /* nesting of one call */
#define LIMIT_JSON_TOKENS     2000          /* values and keys in one call */
#define LIMIT_REPLY_BYTES     (1024 * 1024) /* one reply; lists stream */
#define LIMIT_CONNECTIONS     128           /* -o connections */
#define LIMIT_FIRST_BYTE_MS   5000          /* connect to first byte; -o first-byte-timeout */
#define LIMIT_FRAME_MS        10000         /* first byte of a call to its NUL; -o frame-timeout */
#define LIMIT_IDLE_MS         60000         /* between calls; -o idle-timeout */
#define LIMIT_STALL_MS        30000         /* a reader that takes nothing; -o stall-timeout */
#define LIMIT_OUTPUT_HIGH     (256 * 1024)  /* stop reading calls above this much unsent output ... */
#define LIMIT_OUTPUT_LOW      (128 * 1024)  /* ... until it is down to this */
#define LIMIT_OUTPUT_TOTAL    (4 * 1024 * 1024) /* unsent on all connections: beyond it the mark of each is 0 */
#define LIMIT_STREAM_TURN     (16 * 1024)   /* bytes of a stream written in one turn of the loop */
#define LIMIT_ROWS_TURN       1000          /* rows passed over by a list's filter in one turn */
#define LIMIT_FRAMES_TURN     32            /* calls of one connection answered in one turn ... */
#define LIMIT_TURN_US         1000          /* ... and none is begun in it after this long */

/* Words in a call. */
#define LIMIT_NAME_BYTES      100
#define LIMIT_PROMPT_BYTES    256
#define LIMIT_PYTHON_BYTES    4095          /* a specification or path of an interpreter */
#define LIMIT_GLOB_BYTES      256
#define LIMIT_REQUEST_ID_BYTES 64
#define LIMIT_CALLER_PATH_BYTES 32768       /* the caller's PATH */
#define LIMIT_CALLER_VARIABLES 64

/* Remembered request ids. */
#define LIMIT_REQUESTS_KEPT   65536
#define LIMIT_REQUESTS_KEPT_US (24LL * 3600 * 1000000)

/* Work. */
#define LIMIT_JOBS_QUEUED     256           /* long orders waiting; -o jobs-queued */
#define LIMIT_SHORT_ORDERS    1024          /* short orders waiting for the resident worker */
#define LIMIT_CREATE_MS       600000        /* one whole creation; -o create-timeout */
#define LIMIT_PROBE_MS        10000         /* one question to an interpreter; -o probe-timeout */
#define LIMIT_CHILD_OUTPUT    (64 * 1024)   /* the tail of a child's output that is kept */
#define LIMIT_ERROR_OUTPUT    (8 * 1024)    /* the tail of it that an error carries */
#define LIMIT_WORKER_FRAME    (16 * 1024 * 1024) /* one order to a worker, one frame from it */
#define LIMIT_WORKER_DEPTH    64            /* nesting of one frame from it: what clients hear of it is less than they can read */
#define LIMIT_WORKER_RESTARTS 3             /* a short order, or a look at the whole root, is given to this many workers */
#define LIMIT_INTERPRETERS    256           /* candidates that one search looks at */
#define LIMIT_FAILURE_US      (60LL * 1000000) /* lists believe that an interpreter fails, without asking */
#define LIMIT_KNOWN_BYTES     (256 * 1024)  /* of a file that remembers an interpreter */
#define LIMIT_SPECS           16            /* alternatives in one call: several --python */
#define LIMIT_PIN_BYTES       4096          /* of a .python-version that is read */
#define LIMIT_PIN_LEVELS      64            /* directories upward in which one is looked for */
#define LIMIT_CLAIM_ROUNDS    6             /* a creation asks this often for what is missing, then in place */
#define LIMIT_IMAGES          64            /* of one root; the one that was not used longest goes */
#define LIMIT_IMAGE_FILES     20000         /* files of one image; more: its interpreter is delegated to */
#define LIMIT_POOL_ENTRIES    256           /* of all buckets; pool_entries */
#define LIMIT_POOL_INITIAL    4             /* of a bucket in use; pool_initial */
#define LIMIT_POOL_MIB        1024          /* on the disk, all of them; pool_mib */
#define LIMIT_FILL_ENTRIES    32            /* made by one order */
#define LIMIT_IMAGE_SECONDS   (7LL * 24 * 3600) /* an unused image is kept; image_retention */
#define LIMIT_PACKAGES        4096          /* distributions that are read of one environment */
#define LIMIT_MOVED_TEXT      (1024 * 1024) /* of a file that may name its environment's path */
#define LIMIT_MOVED_RECORD    (16 * 1024 * 1024) /* of a RECORD */
#define LIMIT_MOVED_FILES     20000         /* of one environment that name its path ... */
#define LIMIT_MOVED_BYTES     (64 * 1024 * 1024) /* ... and all of them together */
#define LIMIT_MOVED_ENTRIES   400000        /* of it that are looked at */
#define LIMIT_FINDINGS        200           /* that one diagnosis tells */
#define LIMIT_CONFIG_BYTES    (64 * 1024)   /* of a venvd.conf */
#define LIMIT_CONFIG_DIRECTORIES 64         /* python_directories */
#define LIMIT_EVENTS_QUEUED   1024          /* of one watcher that does not read */
#define LIMIT_WATCHED_NAMES   4096          /* that have changed and are yet to be looked at; more: all of the root */
#define LIMIT_WATCHED_BASES   64            /* directories of base interpreters that are watched */
#define LIMIT_IN_USE          8             /* processes that one refusal names */
#define LIMIT_COMMAND_BYTES   256           /* of the command line of each */
#define LIMIT_MAPS_BYTES      (4 * 1024 * 1024) /* of a process's list of mappings that are read */
#define LIMIT_MAPPED_FILES    4096          /* of environments that one process has mapped */
#define LIMIT_ENVIRONMENTS    200000        /* directories of a root that are listed */
#define LIMIT_CFG_BYTES       (64 * 1024)   /* of a pyvenv.cfg or .project that is read */

/* Keeping. */
#define LIMIT_TRASH_SECONDS   (7LL * 24 * 3600)  /* -o trash-retention */
#define LIMIT_NAMELESS        1024          /* that are missing, and whose names are somebody else's */
#define LIMIT_MISSING_US      (7LL * 24 * 3600 * 1000000)
#define LIMIT_LOG_BYTES       (1024 * 1024) /* a log file; one old one is kept beside it */

/* Starting and stopping. */
#define LIMIT_LOCK_WAIT_MS    10000         /* for the workers of a daemon that is gone; a disk may hold them */
#define LIMIT_ELSEWHERE_MS    2000          /* a start's look at what was being deleted or restored elsewhere */
#define LIMIT_START_WAIT_MS   30000         /* a client's wait for the daemon it started */
#define LIMIT_STOP_MS         1500          /* from SIGTERM until children are killed */
#define LIMIT_PROMPT_MS       5             /* 'venvctl prompt', all in all */
#define LIMIT_CALL_MS         30000         /* a client's default wait for a quick answer */

#endif
