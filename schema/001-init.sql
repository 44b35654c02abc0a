-- The catalog of one root. The file system is the truth: everything here but history can be made again
-- from it. Statements that write are in daemon/store.c; a change of this text is a new file 002-*.sql.
PRAGMA application_id = 1986358884; -- "vend"

CREATE TABLE environment (
	id TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 16),
	name TEXT NOT NULL CHECK (name <> ''),
	state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'broken', 'missing', 'trashed', 'foreign')),
	intent TEXT NOT NULL CHECK (intent IN ('none', 'create', 'delete', 'purge')),
	ino INTEGER NOT NULL,                   -- of its directory, 0: none yet
	btime_ns INTEGER NOT NULL,              -- birth of its directory, 0: unknown
	executable TEXT,                        -- relative to its directory
	interpreter TEXT,
	implementation TEXT,
	version TEXT,
	prompt TEXT,
	project TEXT,
	system_site_packages INTEGER CHECK (system_site_packages IN (0, 1)),
	pip INTEGER CHECK (pip IN (0, 1)),
	origin TEXT,
	creator TEXT,
	created_at INTEGER NOT NULL,            -- microseconds since the epoch, 0: none; so all times
	deleted_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	missing_since INTEGER NOT NULL,
	problem TEXT,
	entry TEXT                              -- its directory in the trash
) STRICT, WITHOUT ROWID;

-- A live name is there once. A newer row of the name takes the place of the older one.
CREATE UNIQUE INDEX environment_live ON environment (name) WHERE state <> 'trashed';

-- What the first call with a request id led to.
CREATE TABLE request (
	id TEXT PRIMARY KEY NOT NULL,
	method TEXT NOT NULL,
	fingerprint TEXT NOT NULL CHECK (length(fingerprint) <= 16),
	environment_id TEXT NOT NULL CHECK (length(environment_id) <= 16),
	error TEXT,
	parameters TEXT,
	at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX request_at ON request (at_us);

PRAGMA user_version = 1;
