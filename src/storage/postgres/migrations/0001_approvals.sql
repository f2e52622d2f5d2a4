-- Approvals, and the rules that hold whatever program writes them.
-- Times are microseconds since the epoch; a deadline that falls between two is rounded up, so that it never comes early.

-- Which status may follow which. A status may follow itself.
CREATE TABLE transitions (
    previous_status text NOT NULL,
    status text NOT NULL,
    PRIMARY KEY (previous_status, status)
);
INSERT INTO transitions (previous_status, status) VALUES
    ('PENDING', 'PENDING'), ('PENDING', 'APPROVED'), ('PENDING', 'DENIED'), ('PENDING', 'EXPIRED'),
    ('PENDING', 'CANCELLED'), ('PENDING', 'SUPERSEDED'),
    ('APPROVED', 'APPROVED'), ('APPROVED', 'REDEEMED'), ('APPROVED', 'REVOKED'), ('APPROVED', 'LAPSED'),
    ('APPROVED', 'SUPERSEDED'),
    ('REDEEMED', 'REDEEMED');

CREATE TABLE approvals (
    id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL CHECK (version >= 1),
    status text NOT NULL,
    previous_status text,
    -- What was asked: never changes.
    caller text NOT NULL,
    requester text NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    view_digest bytea NOT NULL CHECK (octet_length(view_digest) = 32),
    rules text[] NOT NULL,
    opened_us bigint NOT NULL,
    asked json NOT NULL,
    asked_digest text NOT NULL,
    -- How it stands: changes with the version.
    deadline_us bigint CHECK ((status IN ('PENDING', 'APPROVED')) = (deadline_us IS NOT NULL)),
    next_timer_us bigint,
    closed_us bigint CHECK ((status IN ('PENDING', 'APPROVED', 'REDEEMED')) = (closed_us IS NULL)),
    course json NOT NULL,
    -- The record of this version: no state without a record.
    last_record bigint NOT NULL,
    UNIQUE (id, digest, view_digest),
    CONSTRAINT approvals_transition FOREIGN KEY (previous_status, status) REFERENCES transitions (previous_status, status)
);
-- One question about one request at a time, and none while its grant is unspent.
CREATE UNIQUE INDEX approvals_open ON approvals (caller, digest) WHERE status IN ('PENDING', 'APPROVED');
CREATE INDEX approvals_denied ON approvals (caller, digest, closed_us) WHERE status IN ('DENIED', 'REVOKED');
-- By a hash, because a name may be longer than what an index holds.
CREATE INDEX approvals_requester ON approvals (hashtextextended(requester, 0), opened_us);
CREATE INDEX approvals_requester_pending ON approvals (hashtextextended(requester, 0), deadline_us) WHERE status = 'PENDING';
CREATE INDEX approvals_opened ON approvals (opened_us DESC, id DESC);
CREATE INDEX approvals_due ON approvals (next_timer_us, id) WHERE next_timer_us IS NOT NULL;

-- The control log: in the order of writing, which is not quite the order of commits.
CREATE TABLE control_records (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    approval text COLLATE "C" NOT NULL REFERENCES approvals (id) DEFERRABLE INITIALLY DEFERRED,
    version bigint NOT NULL,
    at_us bigint NOT NULL,
    body json NOT NULL,
    UNIQUE (approval, version, sequence)
);
ALTER TABLE approvals ADD CONSTRAINT approvals_recorded FOREIGN KEY (id, version, last_record)
    REFERENCES control_records (approval, version, sequence) DEFERRABLE INITIALLY DEFERRED;

-- The requester's side: they never approve.
CREATE TABLE barred (
    approval text COLLATE "C" NOT NULL REFERENCES approvals (id),
    person text NOT NULL,
    why text NOT NULL,
    PRIMARY KEY (approval, person)
);

-- The vote of each person that counts. `person` is the one name for all accounts of the same person.
CREATE TABLE votes (
    approval text COLLATE "C" NOT NULL,
    person text NOT NULL,
    account text NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    choice text NOT NULL CHECK (choice IN ('APPROVE', 'DENY')),
    at_us bigint NOT NULL,
    request_digest bytea NOT NULL,
    view_digest bytea NOT NULL,
    PRIMARY KEY (approval, person),
    -- On this request, as this view shows it.
    FOREIGN KEY (approval, request_digest, view_digest) REFERENCES approvals (id, digest, view_digest)
);
-- Votes that were taken back: a yes that became a no.
CREATE TABLE vote_changes (
    approval text COLLATE "C" NOT NULL REFERENCES approvals (id),
    person text NOT NULL,
    account text NOT NULL,
    choice text NOT NULL,
    at_us bigint NOT NULL,
    PRIMARY KEY (approval, person)
);

-- A grant is spent once.
CREATE TABLE redemptions (
    approval text COLLATE "C" PRIMARY KEY REFERENCES approvals (id),
    at_us bigint NOT NULL,
    caller text NOT NULL,
    digest bytea NOT NULL,
    key bytea,
    decision_id text NOT NULL
);

-- What places must still be told.
CREATE TABLE outbox (
    approval text COLLATE "C" NOT NULL REFERENCES approvals (id),
    destination text COLLATE "C" NOT NULL,
    desired_version bigint NOT NULL,
    posted_version bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    due_us bigint NOT NULL,
    leased_until_us bigint,
    is_dead boolean NOT NULL DEFAULT false,
    error text,
    reference text,
    PRIMARY KEY (approval, destination)
);
CREATE INDEX outbox_due ON outbox (due_us) WHERE posted_version < desired_version AND NOT is_dead;
CREATE INDEX outbox_dead ON outbox (approval, destination) WHERE is_dead;

-- Wishes that were fulfilled, so that they are fulfilled once.
CREATE TABLE commands (
    caller text NOT NULL,
    method text NOT NULL,
    key bytea NOT NULL,
    payload bytea NOT NULL CHECK (octet_length(payload) = 32),
    approval text COLLATE "C" NOT NULL REFERENCES approvals (id),
    at_us bigint NOT NULL,
    PRIMARY KEY (caller, method, key)
);
CREATE INDEX commands_at ON commands (at_us);

-- Who leads; the epoch grows whenever that changes.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 1),
    until_us bigint NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION check_opening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'PENDING' OR NEW.previous_status IS NOT NULL OR NEW.version <> 1 THEN
        RAISE EXCEPTION 'an approval begins PENDING, at version 1' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION check_progress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.previous_status IS DISTINCT FROM OLD.status OR NEW.version <= OLD.version THEN
        RAISE EXCEPTION 'a change follows the present status and raises the version'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.status = 'REDEEMED' AND OLD.status <> 'REDEEMED' AND NOT EXISTS (
        SELECT FROM redemptions WHERE approval = NEW.id
    ) THEN
        RAISE EXCEPTION 'a grant is spent by a redemption' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION check_vote() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.choice = 'APPROVE' AND EXISTS (
        SELECT FROM barred WHERE approval = NEW.approval AND person IN (NEW.person, NEW.account)
    ) THEN
        RAISE EXCEPTION 'nobody approves a request of their own side' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NOT EXISTS (
        SELECT FROM approvals WHERE id = NEW.approval AND deadline_us > NEW.at_us
            AND (status = 'PENDING' OR (status = 'APPROVED' AND NEW.choice = 'DENY'))
    ) THEN
        RAISE EXCEPTION 'the approval takes no such vote any more' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION keep_changed_vote() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.approval <> NEW.approval OR OLD.person <> NEW.person OR OLD.choice <> 'APPROVE' OR NEW.choice <> 'DENY' THEN
        RAISE EXCEPTION 'a vote changes from yes to no only' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    INSERT INTO vote_changes (approval, person, account, choice, at_us)
    VALUES (OLD.approval, OLD.person, OLD.account, OLD.choice, OLD.at_us);
    RETURN NEW;
END $$;

CREATE FUNCTION check_redemption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM approvals WHERE id = NEW.approval AND status = 'APPROVED' AND caller = NEW.caller AND digest = NEW.digest AND deadline_us > NEW.at_us
    ) THEN
        RAISE EXCEPTION 'only a live grant is redeemed, by the caller that asked' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER approvals_open BEFORE INSERT ON approvals FOR EACH ROW EXECUTE FUNCTION check_opening();
CREATE TRIGGER approvals_progress BEFORE UPDATE ON approvals FOR EACH ROW EXECUTE FUNCTION check_progress();
-- Fires for a statement that names one of these columns, so an ordinary change need not compare what was asked.
CREATE TRIGGER approvals_asked BEFORE UPDATE OF id, caller, requester, digest, view_digest, rules, opened_us, asked, asked_digest
    ON approvals FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER approvals_stay BEFORE DELETE OR TRUNCATE ON approvals EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transitions_stay BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON transitions EXECUTE FUNCTION refuse_change();
CREATE TRIGGER control_records_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON control_records EXECUTE FUNCTION refuse_change();
CREATE TRIGGER barred_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON barred EXECUTE FUNCTION refuse_change();
CREATE TRIGGER votes_check BEFORE INSERT OR UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION check_vote();
CREATE TRIGGER votes_change AFTER UPDATE ON votes FOR EACH ROW EXECUTE FUNCTION keep_changed_vote();
CREATE TRIGGER votes_stay BEFORE DELETE OR TRUNCATE ON votes EXECUTE FUNCTION refuse_change();
CREATE TRIGGER vote_changes_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON vote_changes EXECUTE FUNCTION refuse_change();
CREATE TRIGGER redemptions_check BEFORE INSERT ON redemptions FOR EACH ROW EXECUTE FUNCTION check_redemption();
CREATE TRIGGER redemptions_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON redemptions EXECUTE FUNCTION refuse_change();
