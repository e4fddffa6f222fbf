//! The Lua scripts beside this file, each hashed once. What they do and take stands at their head.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, ToRedisArgs};

use super::node::ConnectionGuard;

macro_rules! scripts {
    ($($name:ident $file:literal)+) => {
        $(pub(super) static $name: LazyLock<LuaScript> = LazyLock::new(|| LuaScript(Script::new(include_str!($file))));)+

        /// The script that this command calls.
        pub(super) fn called_by(command: &Cmd) -> Option<&'static LuaScript> {
            let is_called = |script: &LuaScript| calls(command, script);
            $(if is_called(&$name) {
                return Some(&*$name);
            })+
            None
        }
    };
}

scripts! {
    APPEND "append.lua"
    CHECKPOINTED "checkpointed.lua"
    CLAIM "claim.lua"
    REFRESH "refresh.lua"
    RECORD "record.lua"
    TRIM "trim.lua"
    REMOVE_SILENT "remove_silent.lua"
    REPORT "report.lua"
    GROUP_STATE "group_state.lua"
    TAKE_MARK "take_mark.lua"
    REDELIVER "redeliver.lua"
    WRITABLE "writable.lua"
    MAKE_PENDING "make_pending.lua"
    HEARTBEAT "heartbeat.lua"
    ABSENT "absent.lua"
    SWAP_LETTERS "swap_letters.lua"
}

/// A script; servers are asked for it by its hash, and given it where they do not know it.
pub(super) struct LuaScript(Script);

/// A call of a script.
pub(super) struct ScriptCall {
    pub(super) script: &'static LuaScript,
    pub(super) command: Cmd,
}

impl LuaScript {
    /// A call with one key.
    pub(super) fn key<K: ToRedisArgs>(&'static self, key: K) -> ScriptCall {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.hash()).arg(1).arg(key);
        ScriptCall { script: self, command }
    }

    pub(super) fn hash(&self) -> &str {
        self.0.get_hash()
    }

    /// Gives it to that server.
    pub(super) async fn load(&self, guard: &mut ConnectionGuard) -> Result<(), RedisError> {
        self.0.load_async(&mut guard.connection).await.map(drop)
    }
}

impl ScriptCall {
    pub(super) fn arg<A: ToRedisArgs>(&mut self, arg: A) -> &mut Self {
        self.command.arg(arg);
        self
    }
}

/// The server does not know the script.
pub(super) fn is_unknown_script<T>(reply: &RedisResult<T>) -> bool {
    let kind = reply.as_ref().err().map(RedisError::kind);
    kind == Some(ErrorKind::Server(ServerErrorKind::NoScript))
}

fn calls(command: &Cmd, script: &LuaScript) -> bool {
    let mut words = command.args_iter();
    let mut is_next = |text: &str| matches!(words.next(), Some(redis::Arg::Simple(word)) if word == text.as_bytes());
    is_next("EVALSHA") && is_next(script.hash())
}
