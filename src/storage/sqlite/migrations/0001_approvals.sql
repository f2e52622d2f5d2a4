-- Approvals, their votes, their records, and what must be told of them.
--
-- The rules of the approval live in the program; what is written here again is what must hold whatever the program does.
-- Times are microseconds since the epoch.

-- ## What may follow what

CREATE TABLE transitions (
    previous_status TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (previous_status, status)
) STRICT, WITHOUT ROWID;

INSERT INTO transitions (previous_status, status) VALUES
    ('PENDING', 'PENDING'),
    ('PENDING', 'APPROVED'),
    ('PENDING', 'DENIED'),
    ('PENDING', 'EXPIRED'),
    ('PENDING', 'CANCELLED'),
    ('PENDING', 'SUPERSEDED'),
    ('APPROVED', 'APPROVED'),
    ('APPROVED', 'REDEEMED'),
    ('APPROVED', 'REVOKED'),
    ('APPROVED', 'LAPSED'),
    ('APPROVED', 'SUPERSEDED'),
    ('REDEEMED', 'REDEEMED'),
    ('DENIED', 'DENIED'),
    ('EXPIRED', 'EXPIRED'),
    ('CANCELLED', 'CANCELLED'),
    ('SUPERSEDED', 'SUPERSEDED'),
    ('REVOKED', 'REVOKED'),
    ('LAPSED', 'LAPSED');

CREATE TRIGGER transitions_are_fixed_insert BEFORE INSERT ON transitions
BEGIN SELECT RAISE(ABORT, 'the allowed transitions are fixed'); END;
CREATE TRIGGER transitions_are_fixed_update BEFORE UPDATE ON transitions
BEGIN SELECT RAISE(ABORT, 'the allowed transitions are fixed'); END;
CREATE TRIGGER transitions_are_fixed_delete BEFORE DELETE ON transitions
BEGIN SELECT RAISE(ABORT, 'the allowed transitions are fixed'); END;

-- ## Records: append-only. They are written before what they are about, so they name it without a foreign key.

CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    approval TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    at_us INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE INDEX records_of_approval ON records (approval, sequence);

CREATE TRIGGER records_are_kept_update BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END;
CREATE TRIGGER records_are_kept_delete BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END;

-- ## Approvals

CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version >= 1),
    previous_status TEXT NOT NULL,
    status TEXT NOT NULL,
    caller TEXT NOT NULL,
    requester TEXT NOT NULL,
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    view_digest TEXT NOT NULL CHECK (length(view_digest) = 64),
    asked TEXT NOT NULL,
    asked_digest TEXT NOT NULL CHECK (length(asked_digest) = 64),
    opened_us INTEGER NOT NULL,
    -- When time ends what it is now; only what is pending or approved ends so.
    deadline_us INTEGER CHECK ((deadline_us IS NULL) = (status NOT IN ('PENDING', 'APPROVED'))),
    next_timer_us INTEGER,
    closed_us INTEGER CHECK ((closed_us IS NULL) = (status IN ('PENDING', 'APPROVED', 'REDEEMED'))),
    course TEXT NOT NULL,
    last_record INTEGER NOT NULL REFERENCES records (sequence),
    FOREIGN KEY (previous_status, status) REFERENCES transitions (previous_status, status),
    UNIQUE (id, digest, view_digest)
) STRICT;

-- One request waits, or waits to be redeemed, once.
CREATE UNIQUE INDEX approvals_open_request ON approvals (caller, digest) WHERE status IN ('PENDING', 'APPROVED');
CREATE INDEX approvals_denied_request ON approvals (caller, digest, closed_us) WHERE status IN ('DENIED', 'REVOKED');
CREATE INDEX approvals_waiting_requester ON approvals (requester, deadline_us) WHERE status = 'PENDING';
CREATE INDEX approvals_opened_requester ON approvals (requester, opened_us, id);
CREATE INDEX approvals_opened ON approvals (opened_us, id);
CREATE INDEX approvals_opened_status ON approvals (status, opened_us, id);
CREATE INDEX approvals_timer ON approvals (next_timer_us, id) WHERE next_timer_us IS NOT NULL;

CREATE TRIGGER approvals_begin_pending BEFORE INSERT ON approvals
WHEN NEW.version <> 1 OR NEW.status <> 'PENDING' OR NEW.previous_status <> 'PENDING'
BEGIN SELECT RAISE(ABORT, 'an approval begins pending, at version 1'); END;

CREATE TRIGGER approvals_have_a_record_insert BEFORE INSERT ON approvals
WHEN NOT EXISTS (
    SELECT 1 FROM records AS r WHERE r.sequence = NEW.last_record AND r.approval = NEW.id AND r.version = NEW.version
)
BEGIN SELECT RAISE(ABORT, 'no state without its record'); END;

CREATE TRIGGER approvals_have_a_record_update BEFORE UPDATE ON approvals
WHEN NEW.last_record <= OLD.last_record OR NOT EXISTS (
    SELECT 1 FROM records AS r WHERE r.sequence = NEW.last_record AND r.approval = NEW.id AND r.version = NEW.version
)
BEGIN SELECT RAISE(ABORT, 'no state without its record'); END;

CREATE TRIGGER approvals_go_forward BEFORE UPDATE ON approvals
WHEN NEW.previous_status <> OLD.status OR NEW.version <= OLD.version
BEGIN SELECT RAISE(ABORT, 'an approval goes from where it stands, to a later version'); END;

CREATE TRIGGER approvals_asked_is_fixed
BEFORE UPDATE OF id, caller, requester, digest, view_digest, asked, asked_digest, opened_us ON approvals
BEGIN SELECT RAISE(ABORT, 'what was asked is never changed'); END;

CREATE TRIGGER approvals_are_kept BEFORE DELETE ON approvals
BEGIN SELECT RAISE(ABORT, 'an approval is never deleted'); END;

-- The rules an approval waits for, to list by.
CREATE TABLE approval_rules (
    rule TEXT NOT NULL,
    approval TEXT NOT NULL REFERENCES approvals (id),
    PRIMARY KEY (rule, approval)
) STRICT, WITHOUT ROWID;

-- ## Who never approves: the requester's side, by account and by person

CREATE TABLE barred (
    approval TEXT NOT NULL REFERENCES approvals (id),
    person TEXT NOT NULL,
    PRIMARY KEY (approval, person)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER barred_are_kept_update BEFORE UPDATE ON barred
BEGIN SELECT RAISE(ABORT, 'who is barred stays barred'); END;
CREATE TRIGGER barred_are_kept_delete BEFORE DELETE ON barred
BEGIN SELECT RAISE(ABORT, 'who is barred stays barred'); END;

-- ## Votes: one for each person, on the request and the view of the approval

CREATE TABLE votes (
    approval TEXT NOT NULL,
    person TEXT NOT NULL,
    account TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('APPROVE', 'DENY')),
    at_us INTEGER NOT NULL,
    request_digest TEXT NOT NULL,
    view_digest TEXT NOT NULL,
    PRIMARY KEY (approval, person),
    FOREIGN KEY (approval, request_digest, view_digest) REFERENCES approvals (id, digest, view_digest)
) STRICT, WITHOUT ROWID;

-- Votes that a later one of the same person replaced.
CREATE TABLE vote_changes (
    approval TEXT NOT NULL,
    person TEXT NOT NULL,
    account TEXT NOT NULL,
    choice TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (approval, person)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER votes_by_the_requesters_side BEFORE INSERT ON votes
WHEN NEW.choice = 'APPROVE' AND EXISTS (
    SELECT 1 FROM barred AS b WHERE b.approval = NEW.approval AND b.person IN (NEW.person, NEW.account)
)
BEGIN SELECT RAISE(ABORT, 'nobody approves a request of their own side'); END;

CREATE TRIGGER votes_in_time_insert BEFORE INSERT ON votes
WHEN NOT EXISTS (
    SELECT 1 FROM approvals AS a WHERE a.id = NEW.approval AND a.deadline_us > NEW.at_us
    AND (a.status = 'PENDING' OR (a.status = 'APPROVED' AND NEW.choice = 'DENY'))
)
BEGIN SELECT RAISE(ABORT, 'the approval takes no such vote any more'); END;

CREATE TRIGGER votes_in_time_update BEFORE UPDATE ON votes
WHEN NOT EXISTS (
    SELECT 1 FROM approvals AS a WHERE a.id = NEW.approval AND a.deadline_us > NEW.at_us
    AND a.status IN ('PENDING', 'APPROVED')
)
BEGIN SELECT RAISE(ABORT, 'the approval takes no such vote any more'); END;

CREATE TRIGGER votes_change_to_no_only BEFORE UPDATE ON votes
WHEN NOT (OLD.choice = 'APPROVE' AND NEW.choice = 'DENY' AND NEW.approval = OLD.approval AND NEW.person = OLD.person)
BEGIN SELECT RAISE(ABORT, 'a vote changes from yes to no only'); END;

CREATE TRIGGER votes_changed_are_kept AFTER UPDATE ON votes
BEGIN
    INSERT INTO vote_changes (approval, person, account, choice, at_us)
    VALUES (OLD.approval, OLD.person, OLD.account, OLD.choice, OLD.at_us);
END;

CREATE TRIGGER votes_are_kept BEFORE DELETE ON votes
BEGIN SELECT RAISE(ABORT, 'a vote is never deleted'); END;
CREATE TRIGGER vote_changes_are_kept_update BEFORE UPDATE ON vote_changes
BEGIN SELECT RAISE(ABORT, 'a vote is never deleted'); END;
CREATE TRIGGER vote_changes_are_kept_delete BEFORE DELETE ON vote_changes
BEGIN SELECT RAISE(ABORT, 'a vote is never deleted'); END;

-- ## Redemptions: one for each approval, while its grant lives

CREATE TABLE redemptions (
    approval TEXT NOT NULL PRIMARY KEY REFERENCES approvals (id),
    caller TEXT NOT NULL,
    digest TEXT NOT NULL,
    key TEXT,
    decision_id TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER redemptions_of_a_living_grant BEFORE INSERT ON redemptions
WHEN NOT EXISTS (
    SELECT 1 FROM approvals AS a WHERE a.id = NEW.approval AND a.status = 'APPROVED' AND a.deadline_us > NEW.at_us
    AND a.caller = NEW.caller AND a.digest = NEW.digest
)
BEGIN SELECT RAISE(ABORT, 'there is no grant to redeem'); END;

CREATE TRIGGER redemptions_are_kept_update BEFORE UPDATE ON redemptions
BEGIN SELECT RAISE(ABORT, 'a redemption is never changed'); END;
CREATE TRIGGER redemptions_are_kept_delete BEFORE DELETE ON redemptions
BEGIN SELECT RAISE(ABORT, 'a redemption is never deleted'); END;

CREATE TRIGGER approvals_redeemed_have_a_redemption BEFORE UPDATE ON approvals
WHEN NEW.status = 'REDEEMED' AND NOT EXISTS (SELECT 1 FROM redemptions AS r WHERE r.approval = NEW.id)
BEGIN SELECT RAISE(ABORT, 'nothing is redeemed without a redemption'); END;

-- ## What must be told

CREATE TABLE outbox (
    approval TEXT NOT NULL REFERENCES approvals (id),
    destination TEXT NOT NULL,
    desired_version INTEGER NOT NULL,
    posted_version INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    leased_until_us INTEGER,
    is_dead INTEGER NOT NULL CHECK (is_dead IN (0, 1)),
    error TEXT,
    reference TEXT,
    PRIMARY KEY (approval, destination)
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_due ON outbox (due_us, approval, destination) WHERE is_dead = 0 AND posted_version < desired_version;
CREATE INDEX outbox_dead ON outbox (approval, destination) WHERE is_dead = 1;

-- ## Commands that were done, and leases

CREATE TABLE commands (
    caller TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    approval TEXT NOT NULL REFERENCES approvals (id),
    at_us INTEGER NOT NULL,
    PRIMARY KEY (caller, method, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX commands_at ON commands (at_us);

CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    until_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
