//! The Lua scripts beside this file, each hashed once. What they do and take stands at their head.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));
    };
}

script!(APPEND, "append.lua");
script!(CHECKPOINTED, "checkpointed.lua");
script!(CLAIM, "claim.lua");
script!(REFRESH, "refresh.lua");
script!(RECORD, "record.lua");
script!(TRIM, "trim.lua");
script!(REMOVE_SILENT, "remove_silent.lua");
script!(REPORT, "report.lua");
script!(GROUP_STATE, "group_state.lua");
script!(TAKE_MARK, "take_mark.lua");
script!(REDELIVER, "redeliver.lua");
script!(WRITABLE, "writable.lua");
script!(MAKE_PENDING, "make_pending.lua");
script!(HEARTBEAT, "heartbeat.lua");
script!(ABSENT, "absent.lua");
