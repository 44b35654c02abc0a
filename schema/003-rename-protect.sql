-- What rename and protect have to remember.
ALTER TABLE environment ADD COLUMN new_name TEXT CHECK (new_name <> ''); -- the name that it is being given
ALTER TABLE environment ADD COLUMN protected INTEGER NOT NULL DEFAULT 0 CHECK (protected IN (0, 1));

PRAGMA user_version = 3;
