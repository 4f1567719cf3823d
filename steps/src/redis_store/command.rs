//! `command`: what may be sent, and whether it only reads: the server itself is asked.

use super::{Output, link::Link, value};
use crate::word::Word;
use engine::{ErrorClass, StepError};
use redis::{Cmd, Value as Reply};

/// How long a reply may be, in bytes: an output has to fit into the journal.
const LONGEST: usize = 1 << 20;

/// Commands that change the state of the connection or never end, with what serves instead.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR"],
        "it listens without an end; watch a key with `wait` instead",
    ),
    (
        &["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"],
        "each step has a connection of its own; send several commands at once with EVAL",
    ),
    (
        &[
            "BLPOP",
            "BRPOP",
            "BRPOPLPUSH",
            "BLMOVE",
            "BLMPOP",
            "BZPOPMIN",
            "BZPOPMAX",
            "BZMPOP",
            "WAIT",
            "WAITAOF",
        ],
        "it blocks; use `wait` around a step that looks, or the command without waiting",
    ),
    (
        &["AUTH", "HELLO", "SELECT", "RESET", "QUIT", "ASKING", "READONLY", "READWRITE", "CLIENT"],
        "it is about the connection; `url`, `user` and `password` say what that is",
    ),
    (&["SYNC", "PSYNC", "REPLCONF"], "it is for replicas"),
];

/// Commands that the server flags neither as reading a key nor as writing one, and that change nothing.
const HARMLESS: &[&str] = &[
    "PING",
    "ECHO",
    "TIME",
    "INFO",
    "ROLE",
    "LASTSAVE",
    "COMMAND",
    "COMMAND|COUNT",
    "COMMAND|DOCS",
    "COMMAND|GETKEYS",
    "COMMAND|INFO",
    "COMMAND|LIST",
    "CONFIG|GET",
    "SLOWLOG|GET",
    "SLOWLOG|LEN",
    "LATENCY|DOCTOR",
    "LATENCY|HISTOGRAM",
    "LATENCY|HISTORY",
    "LATENCY|LATEST",
    "MEMORY|DOCTOR",
    "MEMORY|STATS",
    "ACL|CAT",
    "ACL|GETUSER",
    "ACL|LIST",
    "ACL|USERS",
    "ACL|WHOAMI",
    "PUBSUB|CHANNELS",
    "PUBSUB|NUMPAT",
    "PUBSUB|NUMSUB",
    "SCRIPT|EXISTS",
    "FUNCTION|LIST",
    "FUNCTION|STATS",
    "MODULE|LIST",
    "CLUSTER|INFO",
    "CLUSTER|NODES",
    "CLUSTER|SLOTS",
    "CLUSTER|SHARDS",
    "CLUSTER|KEYSLOT",
    "CLUSTER|MYID",
];

/// Why a command cannot be sent; told while a playbook is read, so from the words alone.
pub(super) fn refused(argv: &[&str]) -> Option<String> {
    let name = argv.first()?.to_ascii_uppercase();
    if let Some((_, instead)) = REFUSED.iter().find(|(names, _)| names.contains(&name.as_str())) {
        return Some(format!("`{name}` cannot be a step: {instead}"));
    }
    let blocks = matches!(name.as_str(), "XREAD" | "XREADGROUP")
        && argv
            .iter()
            .take_while(|word| !word.eq_ignore_ascii_case("STREAMS"))
            .any(|word| word.eq_ignore_ascii_case("BLOCK"));
    blocks.then(|| {
        format!("`{name}` with BLOCK cannot be a step: it blocks; put it without BLOCK into a `wait`")
    })
}

/// Sends it. With `reads` the server must say before that it only reads.
pub(super) async fn run(link: &mut Link<'_>, argv: &[Word], reads: bool) -> Result<Output, StepError> {
    let mut command = Cmd::new();
    for word in argv {
        command.arg(link.cx.reveal(&word.0)?.expose());
    }
    let words: Vec<&str> = argv.iter().map(|word| word.0.as_str()).collect();
    let Some(name) = words.first() else {
        return Err(StepError::new(
            ErrorClass::Invalid,
            "`command` is empty: expected a command, such as [GET, key]",
        ));
    };
    if let Some(why) = refused(&words) {
        return Err(StepError::new(ErrorClass::Invalid, why));
    }
    let answer = if reads {
        only_reads(link, &words).await?;
        link.try_ask(&command).await?
    } else {
        link.try_change(&command).await?
    };
    match answer {
        Ok(reply) if value::size(&reply) > LONGEST => Err(too_long(&words, reads, value::size(&reply))),
        Ok(reply) => Ok(Output { value: value::to_json(&words, reply), ..Output::default() }),
        Err(error) => {
            let mut told = super::errors::explain(&error, &link.place);
            if told.class == ErrorClass::Unsupported {
                told.message = told.message.replace("this command", &format!("the command `{name}`"));
            }
            if error.code() == Some("WRONGTYPE") {
                told = which_type(link, &words, &command).await.unwrap_or(told);
            }
            Err(told)
        }
    }
}

fn too_long(argv: &[&str], reads: bool, size: usize) -> StepError {
    let done = if reads { "" } else { "it was carried out, but " };
    let message = format!(
        "`{}`: {done}the reply has {size} bytes: expected at most {LONGEST}",
        argv[0].to_ascii_uppercase()
    );
    StepError::new(ErrorClass::Invalid, message)
        .hint("ask for a part of it, as by LRANGE, GETRANGE or SCAN, or for its length")
}

/// # Errors
/// The server does not know the command, or does not say that it only reads.
async fn only_reads(link: &mut Link<'_>, argv: &[&str]) -> Result<(), StepError> {
    let name = argv[0];
    let reply = match link.try_ask(redis::cmd("COMMAND").arg("INFO").arg(name)).await? {
        Ok(reply) => reply,
        Err(error) => {
            let mut error = super::errors::explain(&error, &link.place);
            error.message = format!("cannot ask whether `{name}` only reads: {}", error.message);
            return Err(error.hint("let the user run COMMAND: ACL SETUSER USER +command"));
        }
    };
    let Some(info) = value::list(reply).into_iter().next().map(value::list).filter(|info| !info.is_empty())
    else {
        let message = format!("`{}` does not know the command `{name}`", link.place.label);
        return Err(
            StepError::new(ErrorClass::Unsupported, message).hint(link.place.type_in(&["COMMAND", "LIST"]))
        );
    };
    let (full, flags) = match argv.get(1).and_then(|word| subcommand(&info, name, word)) {
        Some((full, flags)) => (full, flags),
        None => (name.to_ascii_uppercase(), flags(&info)),
    };
    let writes = flags.iter().any(|flag| flag == "write" || flag == "may_replicate");
    // A server before version 7 does not tell subcommands apart.
    let with_sub =
        argv.get(1).map(|word| format!("{}|{}", name.to_ascii_uppercase(), word.to_ascii_uppercase()));
    let harmless =
        HARMLESS.contains(&full.as_str()) || with_sub.is_some_and(|name| HARMLESS.contains(&name.as_str()));
    if !writes && (harmless || flags.iter().any(|flag| flag == "readonly")) {
        return Ok(());
    }
    let full = full.replace('|', " ");
    let message = match writes {
        true => format!("`reads: true`, but `{}` says that `{full}` writes", link.place.label),
        false => format!("`reads: true`, but `{}` does not say that `{full}` only reads", link.place.label),
    };
    Err(StepError::new(ErrorClass::Invalid, message).hint(
        "leave out `reads` and write an `undo`, or use `set`, `hash`, `push` or `add`, which undo themselves",
    ))
}

/// The flags of a command, lower case.
fn flags(info: &[Reply]) -> Vec<String> {
    let flags = info.get(2).cloned().map(value::list).unwrap_or_default();
    flags.iter().filter_map(value::text).map(str::to_ascii_lowercase).collect()
}

/// A subcommand that the server lists, such as `CONFIG|GET`, with its flags.
fn subcommand(info: &[Reply], name: &str, word: &str) -> Option<(String, Vec<String>)> {
    let full = format!("{name}|{word}").to_ascii_uppercase();
    let list = info.get(9).cloned().map(value::list)?;
    let found = list
        .into_iter()
        .map(value::list)
        .find(|sub| sub.first().and_then(value::text).is_some_and(|sub| sub.eq_ignore_ascii_case(&full)))?;
    Some((full, flags(&found)))
}

/// The error that names the key with its type.
async fn which_type(link: &mut Link<'_>, argv: &[&str], command: &Cmd) -> Option<StepError> {
    let mut question = redis::cmd("COMMAND");
    question.arg("GETKEYS");
    for word in command.args_iter() {
        if let redis::Arg::Simple(word) = word {
            question.arg(word);
        }
    }
    let keys = value::list(link.try_ask(&question).await.ok()?.ok()?);
    let mut found = Vec::new();
    for key in &keys {
        let Reply::BulkString(bytes) = key else { continue };
        let kind = link.type_of(bytes).await.ok()?;
        // The key as the playbook has it: it may hold a secret.
        let shown = argv.iter().find(|word| word.as_bytes() == bytes.as_slice()).copied().unwrap_or("KEY");
        found.push(format!("`{shown}` is a {kind}"));
    }
    if found.is_empty() {
        return None;
    }
    let message = format!(
        "`{}` does not fit: {} of `{}`",
        argv[0].to_ascii_uppercase(),
        found.join(", "),
        link.place.label
    );
    Some(StepError::new(ErrorClass::Invalid, message).hint("use a command of the family of that type"))
}

#[cfg(test)]
mod tests {
    use super::refused;

    #[test]
    fn commands_that_block_or_hold_the_connection_are_refused_with_what_serves_instead() {
        for argv in
            [&["subscribe", "c"][..], &["MULTI"], &["BLPOP", "k", "0"], &["Select", "1"], &["monitor"]]
        {
            let why = refused(argv).expect("refused");
            assert!(why.contains("cannot be a step: "), "{why}");
        }
        assert!(refused(&["XREAD", "COUNT", "1", "BLOCK", "0", "STREAMS", "s", "0"]).is_some());
        assert!(refused(&["XREAD", "STREAMS", "block", "0"]).is_none());
        assert!(refused(&["GET", "multi"]).is_none() && refused(&[]).is_none());
    }
}
