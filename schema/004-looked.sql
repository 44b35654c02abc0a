-- What tells, without a look into an environment, that it is as it was when it was last looked into.
ALTER TABLE environment ADD COLUMN looked INTEGER NOT NULL DEFAULT 0; -- 0: nothing does

PRAGMA user_version = 4;
