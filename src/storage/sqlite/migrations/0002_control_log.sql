-- The control log: every record as it is hashed, and the place it gets later.
--
-- A database that has records from before this step keeps them as they are, and they get no place in the log: nobody had begun to
-- rely on it then.

-- ## Entries: append-only. Each waits in the queue from the moment it is written until it has its place.

CREATE TABLE control_entries (
    entry INTEGER PRIMARY KEY CHECK (entry >= 1),
    body BLOB NOT NULL CHECK (length(body) > 0)
) STRICT;

CREATE TABLE control_queue (
    entry INTEGER PRIMARY KEY REFERENCES control_entries (entry)
) STRICT;

-- ## Places: append-only, from 0 on and without holes.

CREATE TABLE control_log (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    entry INTEGER NOT NULL UNIQUE REFERENCES control_entries (entry)
) STRICT;

-- Also what REPLACE would do, which deletes without a trigger.
CREATE TRIGGER control_entries_are_new BEFORE INSERT ON control_entries
WHEN EXISTS (SELECT 1 FROM control_entries AS e WHERE e.entry = NEW.entry)
BEGIN SELECT RAISE(ABORT, 'an entry of the control log is never changed'); END;
CREATE TRIGGER control_entries_wait AFTER INSERT ON control_entries
BEGIN INSERT INTO control_queue (entry) VALUES (NEW.entry); END;
CREATE TRIGGER control_entries_are_kept_update BEFORE UPDATE ON control_entries
BEGIN SELECT RAISE(ABORT, 'an entry of the control log is never changed'); END;
CREATE TRIGGER control_entries_are_kept_delete BEFORE DELETE ON control_entries
BEGIN SELECT RAISE(ABORT, 'an entry of the control log is never deleted'); END;

CREATE TRIGGER control_queue_is_for_the_placeless BEFORE INSERT ON control_queue
WHEN EXISTS (SELECT 1 FROM control_log AS l WHERE l.entry = NEW.entry)
BEGIN SELECT RAISE(ABORT, 'an entry of the control log gets one place'); END;
CREATE TRIGGER control_queue_is_kept_update BEFORE UPDATE ON control_queue
BEGIN SELECT RAISE(ABORT, 'an entry of the control log waits for its place'); END;
CREATE TRIGGER control_queue_is_kept_delete BEFORE DELETE ON control_queue
WHEN NOT EXISTS (SELECT 1 FROM control_log AS l WHERE l.entry = OLD.entry)
BEGIN SELECT RAISE(ABORT, 'an entry of the control log waits for its place'); END;

CREATE TRIGGER control_log_has_no_holes BEFORE INSERT ON control_log
WHEN NEW.idx <> (SELECT ifnull(max(l.idx) + 1, 0) FROM control_log AS l)
BEGIN SELECT RAISE(ABORT, 'the control log has no holes'); END;
CREATE TRIGGER control_log_takes_what_waits BEFORE INSERT ON control_log
WHEN NOT EXISTS (SELECT 1 FROM control_queue AS q WHERE q.entry = NEW.entry)
BEGIN SELECT RAISE(ABORT, 'only an entry that waits gets a place'); END;
CREATE TRIGGER control_log_ends_the_wait AFTER INSERT ON control_log
BEGIN DELETE FROM control_queue WHERE entry = NEW.entry; END;
CREATE TRIGGER control_log_is_kept_update BEFORE UPDATE ON control_log
BEGIN SELECT RAISE(ABORT, 'a place in the control log is never changed'); END;
CREATE TRIGGER control_log_is_kept_delete BEFORE DELETE ON control_log
BEGIN SELECT RAISE(ABORT, 'a place in the control log is never deleted'); END;

-- ## No record without its entry; entries come in the order of their records.

ALTER TABLE records ADD COLUMN entry INTEGER REFERENCES control_entries (entry);

CREATE TRIGGER records_have_an_entry BEFORE INSERT ON records
WHEN NEW.entry IS NULL OR NEW.entry <= (SELECT r.entry FROM records AS r ORDER BY r.sequence DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'no record without an entry of its own'); END;

-- ## How far the log has come: one row. The frontier is the right edge of the tree over all places; the epoch is that of the lease
-- under which it was written.

CREATE TABLE control_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL CHECK (size >= 0),
    frontier BLOB NOT NULL CHECK (length(frontier) >= 8),
    epoch INTEGER NOT NULL CHECK (epoch >= 0)
) STRICT;

INSERT INTO control_head (one, size, frontier, epoch) VALUES (1, 0, x'0000000000000000', 0);

CREATE TRIGGER control_head_is_one BEFORE INSERT ON control_head
BEGIN SELECT RAISE(ABORT, 'the control log has one head'); END;
CREATE TRIGGER control_head_goes_forward BEFORE UPDATE ON control_head
WHEN NEW.size <= OLD.size OR NEW.epoch < OLD.epoch
    OR NEW.size <> (SELECT ifnull(max(l.idx) + 1, 0) FROM control_log AS l)
BEGIN SELECT RAISE(ABORT, 'the head of the control log follows its places'); END;
CREATE TRIGGER control_head_is_kept BEFORE DELETE ON control_head
BEGIN SELECT RAISE(ABORT, 'the control log has one head'); END;

-- ## Signed checkpoints: append-only, of growing sizes, never ahead of the log.

CREATE TABLE control_checkpoints (
    size INTEGER PRIMARY KEY CHECK (size >= 0),
    note TEXT NOT NULL
) STRICT;

CREATE TRIGGER control_checkpoints_grow BEFORE INSERT ON control_checkpoints
WHEN NEW.size <= (SELECT max(c.size) FROM control_checkpoints AS c) OR NEW.size > (SELECT h.size FROM control_head AS h)
BEGIN SELECT RAISE(ABORT, 'a checkpoint is of a later size than the last, and of what has a place'); END;
CREATE TRIGGER control_checkpoints_are_kept_update BEFORE UPDATE ON control_checkpoints
BEGIN SELECT RAISE(ABORT, 'a checkpoint is never changed'); END;
CREATE TRIGGER control_checkpoints_are_kept_delete BEFORE DELETE ON control_checkpoints
BEGIN SELECT RAISE(ABORT, 'a checkpoint is never deleted'); END;
