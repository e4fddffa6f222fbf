-- Runs of `orderstream reconcile`, and who may run one: the next run begins where the last one ended, whichever process
-- it is.

CREATE TABLE {schema}.reconciliations (
    shop          text COLLATE "C" NOT NULL,
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL,
    by_hand       boolean NOT NULL,
    seen          bigint NOT NULL,
    missing       bigint NOT NULL,
    stale         bigint NOT NULL,
    deleted       bigint NOT NULL,
    repaired      bigint NOT NULL,
    waiting       bigint NOT NULL,
    dead_lettered bigint NOT NULL,
    vanished      bigint NOT NULL,
    ours_newer    bigint NOT NULL,
    failed        bigint NOT NULL,
    points        bigint NOT NULL,
    seconds       bigint NOT NULL,
    PRIMARY KEY (shop, ended_at)
);
COMMENT ON TABLE {schema}.reconciliations IS
    'Each comparison of the shop''s orders that changed from since until until with these tables, and what it found and repaired.';

CREATE TABLE {schema}.reconcile_locks (
    shop   text COLLATE "C" PRIMARY KEY,
    holder text NOT NULL,
    until  timestamptz NOT NULL
);
COMMENT ON TABLE {schema}.reconcile_locks IS 'Which process compares a shop''s orders; until then, unless it holds on.';
