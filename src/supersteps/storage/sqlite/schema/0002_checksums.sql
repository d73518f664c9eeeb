-- So that what is damaged is noticed there, too. What is there already gets its checksums right after this script.
ALTER TABLE runs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;     -- of the columns that checkpoints go by
ALTER TABLE heads ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;    -- of the run's whole record, in both tables
ALTER TABLE journal ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
