CREATE TABLE reconciliations (
    -- Each comparison of the shop's orders that changed from since until until with these tables, and what it found and
    -- repaired.
    shop          TEXT NOT NULL,
    since         TIMESTAMP NOT NULL,
    until         TIMESTAMP NOT NULL,
    ended_at      TIMESTAMP NOT NULL,
    by_hand       BOOLEAN NOT NULL,
    seen          INTEGER NOT NULL,
    missing       INTEGER NOT NULL,
    stale         INTEGER NOT NULL,
    deleted       INTEGER NOT NULL,
    repaired      INTEGER NOT NULL,
    waiting       INTEGER NOT NULL,
    dead_lettered INTEGER NOT NULL,
    vanished      INTEGER NOT NULL,
    ours_newer    INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    points        INTEGER NOT NULL,
    seconds       INTEGER NOT NULL,
    PRIMARY KEY (shop, ended_at)
);
CREATE TABLE reconcile_locks (
    -- Which process compares a shop's orders; until then, unless it holds on.
    shop   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until  TIMESTAMP NOT NULL
);
