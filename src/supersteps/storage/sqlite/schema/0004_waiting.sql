-- The questions that wait at a run's head are rows of their own, so that a commit writes those that it changes. In
-- `heads` stands only how many there are ('[]' for none). What is there already is moved right after this script.
ALTER TABLE waiting ADD COLUMN number INTEGER NOT NULL DEFAULT 0;    -- their order within the run
ALTER TABLE waiting ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
CREATE INDEX waiting_of_run ON waiting (run, number, checksum);
