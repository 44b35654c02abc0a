-- Environments outside the root, what one was asked for with, and two more things that can be under way. The
-- intents are a CHECK, so the table is made anew.
CREATE TABLE environment_2 (
	id TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 16),
	name TEXT NOT NULL CHECK (name <> ''),
	state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'broken', 'missing', 'trashed', 'foreign')),
	intent TEXT NOT NULL CHECK (intent IN ('none', 'create', 'delete', 'purge', 'claim', 'rebuild')),
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
	entry TEXT,                             -- trashed: its directory in the trash; being made: that of the one it replaces
	location TEXT CHECK (location LIKE '/%'), -- its directory, if that is not in the root
	options TEXT                            -- JSON: what it was asked for with
) STRICT, WITHOUT ROWID;

INSERT INTO environment_2 SELECT id, name, state, intent, ino, btime_ns, executable, interpreter, implementation,
	version, prompt, project, system_site_packages, pip, origin, creator, created_at, deleted_at, expires_at,
	missing_since, problem, entry, NULL, NULL FROM environment;
DROP TABLE environment;
ALTER TABLE environment_2 RENAME TO environment;

-- A live name is there once. A newer row of the name takes the place of the older one.
CREATE UNIQUE INDEX environment_live ON environment (name) WHERE state <> 'trashed';

PRAGMA user_version = 2;
