//! `ssh`: runs a command on a host, or carries a file to it or from it.

use crate::{
    command,
    hex::hex,
    place::{At, Found, Names, Placing, check_path},
    word::{Word, argv, environment, short, stdin},
};
use engine::{
    ErrorClass, Step, StepError,
    host::{BoxFuture, Exec, Host, shell_word},
    quantity::Bytes,
    step::{ByHand, Context, Description, Docs, ParamsView, Presence, Probe, Settled, Undone},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use transfer::{Carried, Transfer};

mod transfer;

/// The step type `ssh`.
#[derive(Clone, Copy, Debug)]
pub struct Ssh;

/// What stands below `ssh`. Exactly one of `run`, `upload` and `download`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A name of the playbook's `hosts`.
    host: String,
    /// The program and its arguments; they never pass through a shell.
    run: Option<Vec<Word>>,
    /// With `run`: says that the command changes nothing.
    #[serde(default)]
    reads: bool,
    /// With `run`: the working directory.
    dir: Option<String>,
    /// With `run`: variables added to the environment.
    #[serde(default)]
    env: BTreeMap<String, Word>,
    /// With `run`: text for its standard input.
    stdin: Option<String>,
    /// With `run`: the exit statuses that are a success; `[0]` if not given.
    #[serde(default = "command::zero")]
    ok_codes: Vec<i32>,
    /// Carries a file of this machine to the host.
    upload: Option<Upload>,
    /// Carries a file of the host to this machine.
    download: Option<Download>,
}

/// A file to the host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The file of this machine.
    #[schemars(extend("format" = "local-path"))]
    from: String,
    /// The path on the host; relative to the login's home.
    to: String,
    /// The mode there, in octal as text such as `"0644"`; that of `from` if not given.
    mode: Option<String>,
}

/// A file from the host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The path on the host; relative to the login's home.
    from: String,
    /// The path on this machine.
    #[schemars(extend("format" = "local-path"))]
    to: String,
}

/// What `out` shows: of a `run` what `command` shows, of a file its path, size and hash.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// `run`: the exit status; a signal shows as 128 + its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// `run`: stdout as text, without its last line feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// `run`: stdout as base64, if it is no UTF-8: exactly the bytes that were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// `run`: stderr as text, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// `run`: stderr as base64, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// `upload`, `download`: the path of the new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `upload`, `download`: its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// `upload`, `download`: its sha256 in lower-case hex, as found at both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `upload`, `download`: how many bytes went over the connection, more than the size if some went twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// `upload`, `download`: how many bytes were there already when it went on after a break, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<u64>,
}

/// Nothing for a `run`; for a file, what is needed to take it back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Intent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placing: Option<Placing>,
    /// The size of the file that is carried.
    #[serde(default)]
    size: u64,
    /// The mode of the file that is carried, in octal.
    #[serde(default)]
    mode: String,
}

impl Step for Ssh {
    const KIND: &'static str = "ssh";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "runs a command on a host, or carries a file to or from it",
            details: "`run` is a list and never passes through a shell of ours: every byte arrives as it stands. The \
                      command ends with the run, also when the connection breaks or this program is killed: a guard \
                      on the host ends it and all that came of it. Where the login may make a control group (root, or a user with \
                      a service manager), nothing that a process does to itself takes it out; elsewhere one that clears \
                      its environment and leaves its session is not found. A connection that breaks leaves the outcome \
                      unknown; only with `reads: true` is the command run again.\n\n\
                      `upload` and `download` write beside the target, compare the sha256 of both ends, and rename. \
                      When the connection breaks they wait for the host, until the step's `timeout`, and go on where \
                      they stood, once the sha256 of that part is known to be right; so does another attempt, and a \
                      run that is resumed. Their undo removes the file if it is still what was put there, or restores \
                      the file that was there before if that is as it was, and removes a part. The file keeps the mode \
                      of `from` unless `mode` is given. In `cleanup`, or as a written undo, nothing is put aside.\n\n\
                      Keys of hosts are never accepted unasked: the host must be in `known_hosts`.",
            example: "uptime:\n  ssh: { host: nas, run: [uptime], reads: true }\n\
                      sample:\n  ssh:\n    host: nas\n    upload: { from: sample.bin, to: /volume1/inbox/sample.bin }\n",
            errors: &[
                ("unreachable", "no connection, or it broke: `ssh -v HOST true`"),
                ("denied", "the login or the host key was refused: `ssh-copy-id HOST`, `ssh-keyscan HOST`"),
                ("exit", "the status is not among `ok_codes`; the last lines of stderr follow"),
                ("not-found", "the program, the file or its folder does not exist"),
                ("exists", "the target of a file is there and no file"),
                ("corrupt", "what arrived is not what was sent"),
                ("no-space", "no room at the target: `df -h`"),
                ("unsupported", "the host lacks `setsid`, `grep`, `stat` or `sha256sum`"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let host = view.show("host");
        let part = |key: &str, name: &str| {
            view.get(key)
                .and_then(|value| value.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let undo = "remove it or restore the earlier file, if unchanged";
        if view.has("upload") {
            let title = format!("upload {} to {host}:{}", part("upload", "from"), part("upload", "to"));
            return Description::changes(title, undo);
        }
        if view.has("download") {
            let title = format!("download {host}:{} to {}", part("download", "from"), part("download", "to"));
            return Description::changes(title, undo);
        }
        let title = format!("run on {host}: {}", short(&view.words("run")));
        if view.is_true("reads") { Description::reads(title) } else { Description::needs_written_undo(title) }
    }

    fn host_param(&self, view: &ParamsView<'_>) -> Option<&'static str> {
        // What a download makes is here.
        (!view.has("download")).then_some("host")
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        let to = |key: &str| view.get(key).and_then(|value| value.get("to")).and_then(Value::as_str);
        let there = to("upload").map(|path| format!("the file `{path}` on {}", view.show("host")));
        there.or(to("download").map(|path| format!("the file `{path}`"))).into_iter().collect()
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut problems = view.exactly_one(&["run", "upload", "download"]);
        if !view.has("run") {
            for key in view.present(&["reads", "dir", "env", "stdin", "ok_codes"]) {
                problems.push((key.into(), format!("`{key}` goes with `run` only")));
            }
        }
        problems
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let host = host(cx, params).await?;
        match (&params.upload, &params.download) {
            (Some(upload), _) => Ok(match at(cx, host.as_ref()).look(&upload.to).await? {
                Found::Nothing => Probe::would_pass("connected, no such file yet"),
                Found::File { size, .. } => Probe::would_pass(format!("connected, replaces {}", Bytes(size))),
                Found::Other => Probe::unknown("connected, the target is no file"),
            }),
            (_, Some(download)) => Ok(match at(cx, host.as_ref()).look(&download.from).await? {
                Found::File { size, .. } => Probe::would_pass(format!("connected, {}", Bytes(size))),
                _ => Probe::unknown("connected, no such file yet"),
            }),
            _ => Ok(Probe::unknown("connected")),
        }
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let names = Names {
            run: cx.services.run.id.clone(),
            step: hex(&Sha256::digest(&cx.step)[..4]),
            attempt: cx.attempt,
            keeps: !cx.is_final(),
        };
        let (from, from_host, to, to_host): (_, Arc<dyn Host>, _, Arc<dyn Host>) = match params {
            Params { upload: Some(upload), .. } => {
                check_path("from", &upload.from)?;
                check_path("to", &upload.to)?;
                (upload.from.clone(), cx.services.local.clone(), upload.to.clone(), host(cx, params).await?)
            }
            Params { download: Some(download), .. } => {
                check_path("from", &download.from)?;
                check_path("to", &download.to)?;
                let to = absolute(&download.to)?.display().to_string();
                (download.from.clone(), host(cx, params).await?, to, cx.services.local.clone())
            }
            _ => return Ok(Intent { placing: None, size: 0, mode: String::new() }),
        };
        let source_at = at(cx, from_host.as_ref());
        let source = source_at.look(&from).await?;
        let Found::File { sha256, size, mode } = source else {
            let message = format!("there is no file `{from}` on `{}`", from_host.name());
            return Err(StepError::new(ErrorClass::NotFound, message)
                .hint(source_at.typed(&format!("ls -l -- {}", shell_word(&from)))));
        };
        let placing = Placing::plan(at(cx, to_host.as_ref()), &to, sha256, &names).await?;
        Ok(Intent { placing: Some(placing), size, mode: plain(&mode) })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let host = host(cx, params).await?;
        match (&params.run, &params.upload, &params.download, &intent.placing) {
            (Some(words), None, None, _) => run(cx, params, words, host.as_ref()).await,
            (None, Some(upload), None, Some(placing)) => {
                let mode = upload.mode.as_ref().unwrap_or(&intent.mode);
                check_mode(mode)?;
                let (from, local) = (absolute(&upload.from)?.display().to_string(), &cx.services.local);
                let (source, target) = (local.as_ref(), host.as_ref());
                let placing = placing.clone();
                let mut transfer = Transfer { cx, from: &from, source, target, placing, intent, mode };
                Ok(carried(cx, intent, Some(transfer.run().await?)))
            }
            (None, None, Some(download), Some(placing)) => {
                let (source, target) = (host.as_ref(), cx.services.local.as_ref());
                let (from, mode) = (&download.from, &intent.mode);
                let placing = placing.clone();
                let mut transfer = Transfer { cx, from, source, target, placing, intent, mode };
                Ok(carried(cx, intent, Some(transfer.run().await?)))
            }
            _ => Err(StepError::new(
                ErrorClass::Invalid,
                "expected exactly one of `run`, `upload`, `download`",
            )),
        }
    }

    fn summary(&self, output: &Output) -> String {
        match (&output.path, output.size, &output.stdout) {
            (Some(path), Some(size), _) => match output.resumed_at {
                Some(at) => format!("{path}, {}, went on after {}", Bytes(size), Bytes(at)),
                None => format!("{path}, {}", Bytes(size)),
            },
            (_, _, Some(stdout)) => short(stdout.lines().next().unwrap_or_default()),
            _ => String::new(),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let Some(placing) = &intent.placing else { return Ok(Settled::NotHappened) };
        let target = target(cx, params).await?;
        Ok(match placing.is_placed(at(cx, target.as_ref())).await? {
            Ok(true) => Settled::Happened(carried(cx, intent, None)),
            Ok(false) => Settled::NotHappened,
            Err(why) => Settled::Unclear(why),
        })
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let Some(placing) = &intent.placing else { return Ok(Undone::NothingToDo) };
        let target = target(cx, params).await?;
        // An attempt that went on with the file of this one is taken back first.
        let all = cx.chronicle.of("ssh").into_iter().filter(|it| it.step == cx.step);
        let others = all.filter_map(|it| serde_json::from_value::<Intent>(it.intent).ok()?.placing);
        let placing = &placing.after(others);
        let amend = |placing: Placing| -> BoxFuture<'_, Result<(), StepError>> {
            let noted = Intent { placing: Some(placing), size: intent.size, mode: intent.mode.clone() };
            Box::pin(async move { cx.amend(&noted).await })
        };
        placing.take_back(at(cx, target.as_ref()), &amend).await
    }

    async fn release(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<(), StepError> {
        let Some(placing) = &intent.placing else { return Ok(()) };
        let target = target(cx, params).await?;
        placing.release(at(cx, target.as_ref())).await
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let host = params.upload.as_ref().map(|_| params.host.clone());
        Some(ByHand { host, command: intent.placing.as_ref()?.by_hand() })
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let Some(placing) = &intent.placing else { return Ok(Presence::Gone) };
        let target = target(cx, params).await?;
        placing.presence(at(cx, target.as_ref())).await
    }
}

async fn host(cx: &Context, params: &Params) -> Result<Arc<dyn Host>, StepError> {
    cx.services.host(Some(&params.host)).await
}

/// The host on which a file is put.
async fn target(cx: &Context, params: &Params) -> Result<Arc<dyn Host>, StepError> {
    if params.download.is_some() { Ok(cx.services.local.clone()) } else { host(cx, params).await }
}

async fn run(cx: &Context, params: &Params, words: &[Word], host: &dyn Host) -> Result<Output, StepError> {
    let exec = Exec {
        argv: argv(words)?,
        env: environment(cx, host, &params.env)?,
        dir: params.dir.clone(),
        stdin: stdin(cx, params.stdin.as_deref())?,
        repeatable: params.reads,
        secrets: cx.services.secrets.clone(),
        ..Exec::default()
    };
    let title = short(&exec.argv.join(" "));
    let ended = host.exec(exec, &cx.cancel).await;
    cx.services.note_degraded(host);
    let ended = ended?;
    let shown = command::output(&title, ended, &params.ok_codes, None)?;
    Ok(Output {
        code: shown.code,
        stdout: Some(shown.stdout),
        stdout_base64: shown.stdout_base64,
        stderr: Some(shown.stderr),
        stderr_base64: shown.stderr_base64,
        ..Output::default()
    })
}

fn at<'a>(cx: &'a Context, host: &'a dyn Host) -> At<'a> {
    At { host, services: &cx.services, cancel: &cx.cancel }
}

/// A mode without what lets a program run as its owner: the new file's owner is another.
fn plain(mode: &str) -> String {
    u32::from_str_radix(mode, 8).map_or_else(|_| mode.to_owned(), |bits| format!("{:o}", bits & 0o777))
}

fn carried(cx: &Context, intent: &Intent, how: Option<Carried>) -> Output {
    cx.bytes(intent.size, intent.size);
    Output {
        path: intent.placing.as_ref().map(|placing| placing.to.clone()),
        size: Some(intent.size),
        sha256: intent.placing.as_ref().map(|placing| placing.sha256.clone()),
        sent_bytes: how.as_ref().map(|how| how.sent),
        resumed_at: how.and_then(|how| how.resumed_at),
        ..Output::default()
    }
}

fn absolute(path: &str) -> Result<PathBuf, StepError> {
    std::path::absolute(path).map_err(|error| StepError::io(format!("find `{path}`"), &error))
}

fn check_mode(mode: &str) -> Result<(), StepError> {
    if u32::from_str_radix(mode, 8).is_ok_and(|bits| bits <= 0o7777) {
        return Ok(());
    }
    Err(StepError::new(
        ErrorClass::Invalid,
        format!("mode `{mode}`: expected octal digits such as `\"0644\"`"),
    ))
}

#[cfg(test)]
mod tests;
