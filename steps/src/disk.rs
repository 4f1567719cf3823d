//! `disk`: how much room a file system has.

use engine::{
    ErrorClass, Step, StepError,
    host::Exec,
    quantity::Bytes,
    step::{Context, Description, Docs, NoIntent, ParamsView},
};
use nix::sys::statvfs::statvfs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The step type `disk`.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

/// What stands below `disk`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A path on the file system. If it does not exist yet, its nearest folder that does is measured.
    #[schemars(extend("format" = "path"))]
    path: String,
    /// The step fails if fewer bytes are free, such as `10GB`.
    min_free: Option<Bytes>,
    /// The step fails if less of the whole is free, in percent.
    min_free_percent: Option<f64>,
    /// The step fails if fewer inodes are free.
    min_inodes: Option<u64>,
}

/// What `out` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The path that was measured: the one asked for, or its nearest folder that exists.
    pub path: String,
    /// Bytes that any user may still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// How much of what any user may have is used, in percent, as `df` tells it.
    pub used_percent: f64,
    /// Free inodes; missing where the file system does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes_free: Option<u64>,
    /// Inodes in all, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes_total: Option<u64>,
}

impl Step for Disk {
    const KIND: &'static str = "disk";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "free space and inodes of a file system",
            details: "Measures the file system on which `path` lies, here or on a host. A path that does not exist \
                      yet stands for the nearest folder that does; `out.path` says which.",
            example: "room:\n  disk: { path: /data/temp, min_free: 5GB, min_inodes: 1000 }\n",
            errors: &[
                ("expectation", "less is free than asked for: `df -h PATH; du -xh PATH | sort -h | tail`"),
                ("denied", "the path may not be read: `namei -l PATH`"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let wanted = ["min_free", "min_free_percent", "min_inodes"];
        let wanted = view
            .present(&wanted)
            .into_iter()
            .map(|key| {
                let least = match (key, view.get(key).and_then(Value::as_u64)) {
                    ("min_free", Some(bytes)) => Bytes(bytes).to_string(),
                    _ => view.show(key),
                };
                format!("{} at least {least}", key.trim_start_matches("min_"))
            })
            .collect::<Vec<_>>()
            .join(", ");
        let end = if wanted.is_empty() { String::new() } else { format!(", {wanted}") };
        Description::reads(format!("free space of {}{end}", view.show("path")))
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        if params.path.is_empty() || params.path.starts_with('-') || params.path.contains('\0') {
            let message =
                format!("path `{}`: expected one that does not begin with `-`", params.path.escape_debug());
            return Err(StepError::new(ErrorClass::Invalid, message));
        }
        let found =
            if cx.host.is_local() { local(&params.path).await? } else { remote(cx, &params.path).await? };
        judge(params, &found)?;
        Ok(found)
    }

    fn summary(&self, output: &Output) -> String {
        let inodes = output.inodes_free.map(|n| format!(", {n} inodes free")).unwrap_or_default();
        format!("{} of {} free on {}{inodes}", Bytes(output.free), Bytes(output.total), output.path)
    }
}

async fn local(path: &str) -> Result<Output, StepError> {
    let path = PathBuf::from(path);
    // A network file system whose server is gone answers late or never: not on a thread that others need.
    tokio::task::spawn_blocking(move || measure(&path))
        .await
        .map_err(|error| StepError::internal(format!("cannot measure a file system: {error}")))?
}

fn measure(path: &Path) -> Result<Output, StepError> {
    let io = |path: &Path, error| StepError::io(format!("look at `{}`", path.display()), &error);
    let absolute = std::path::absolute(path).map_err(|error| io(path, error))?;
    for existing in absolute.ancestors() {
        match statvfs(existing) {
            Ok(it) => {
                let (size, inodes) = (it.fragment_size(), it.files());
                // What df does: blocks that only root may use count neither as free nor as room.
                let used = it.blocks().saturating_sub(it.blocks_free());
                return Ok(Output {
                    path: existing.display().to_string(),
                    free: it.blocks_available().saturating_mul(size),
                    total: it.blocks().saturating_mul(size),
                    used_percent: percent(used, used + it.blocks_available()),
                    inodes_free: (inodes > 0).then(|| it.files_available()),
                    inodes_total: (inodes > 0).then_some(inodes),
                });
            }
            Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(io(existing, error.into())),
        }
    }
    Err(StepError::new(ErrorClass::NotFound, format!("no folder above `{}` exists", path.display())))
}

#[expect(clippy::cast_precision_loss, reason = "percent, to one decimal")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1_000.0 / whole as f64).round() / 10.0 }
}

/// A folder that may not be entered is not taken for one that does not exist: another file system may begin in it. `-P -k` is what every `df` understands, also that of busybox; one without `-i` counts no inodes.
const REMOTE: &str = r#"
p=$1
[ -e "$p" ] || gone "$1" || exit 13
printf '%s\0' "$p"
df -P -k -- "$p" || exit 1
echo
df -P -i -- "$p" 2>/dev/null
exit 0
"#;

async fn remote(cx: &Context, path: &str) -> Result<Output, StepError> {
    let script = [crate::sh::GONE, REMOTE].concat();
    let exec = Exec::new(["/bin/sh", "-c", &script, "sh", &crate::sh::plain(path)]);
    let ended = cx.exec(exec.env("LC_ALL", "C").repeatable()).await?;
    if ended.code == Some(13) {
        let message = format!("cannot look at `{path}` on `{}`: permission denied", cx.host.name());
        return Err(StepError::new(ErrorClass::Denied, message)
            .hint(format!("namei -l {}", engine::host::shell_word(path))));
    }
    let ended = ended.require_success(&format!("df {path}"))?;
    parse(&ended.stdout_text()).ok_or_else(|| {
        let message = format!("the answer of `df` on `{}` cannot be read", cx.host.name());
        StepError::new(ErrorClass::Unsupported, message).detail(ended.stdout_text().replace('\0', " "))
    })
}

/// Reads what `REMOTE` prints.
fn parse(text: &str) -> Option<Output> {
    let (path, tables) = text.split_once('\0')?;
    let (space, inodes) = tables.split_once("\n\n").unwrap_or((tables, ""));
    let [total, used, free] = numbers(space)?;
    let inodes = numbers(inodes).filter(|[total, ..]| *total > 0);
    Some(Output {
        path: path.to_owned(),
        free: free * 1_024,
        total: total * 1_024,
        used_percent: percent(used, used + free),
        inodes_free: inodes.map(|[_, _, free]| free),
        inodes_total: inodes.map(|[total, ..]| total),
    })
}

/// The three numbers before the last `%` of the second line. The device before them may hold blanks.
fn numbers(table: &str) -> Option<[u64; 3]> {
    let fields: Vec<&str> = table.lines().nth(1)?.split_whitespace().collect();
    let end = fields.windows(4).position(|window| {
        window[..3].iter().all(|field| field.parse::<u64>().is_ok())
            && (window[3].ends_with('%') || window[3] == "-")
    })?;
    let number = |at: usize| fields.get(end + at)?.parse().ok();
    Some([number(0)?, number(1)?, number(2)?])
}

fn judge(params: &Params, found: &Output) -> Result<(), StepError> {
    let hint = format!("df -h {0}; du -xh {0} | sort -h | tail", found.path);
    let fail = |what: String| Err(StepError::expectation(what).hint(hint.clone()));
    let path = &found.path;
    if let Some(min) = params.min_free.filter(|min| found.free < min.0) {
        return fail(format!("`{path}` has {} free, expected at least {min}", Bytes(found.free)));
    }
    let free_percent = 100.0 - found.used_percent;
    if let Some(min) = params.min_free_percent.filter(|min| free_percent < *min) {
        return fail(format!("`{path}` has {free_percent:.1} % free, expected at least {min} %"));
    }
    if let (Some(min), Some(free)) = (params.min_inodes, found.inodes_free)
        && free < min
    {
        return Err(StepError::expectation(format!(
            "`{path}` has {free} inodes free, expected at least {min}"
        ))
        .hint(format!("df -i {path}; find {path} -xdev -type d -size +1M")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Output, parse};
    use crate::{
        ssh_host::{SshConnector, sshd::Sshd},
        testing::Bench,
    };
    use engine::ErrorClass;
    use serde_json::json;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_path_that_is_to_come_is_measured_by_its_folder() {
        let bench = Bench::new();
        let out = bench.run("disk", json!({ "path": bench.at("a/b/c") })).await.expect("measures");
        assert_eq!(out["path"], bench.dir.path().display().to_string());
        assert!(out["total"].as_u64() > out["free"].as_u64() && out["free"].as_u64() > Some(0));
    }

    #[tokio::test]
    async fn too_little_room_fails_with_the_figures() {
        let bench = Bench::new();
        for limit in [json!({ "min_free": "8000TB" }), json!({ "min_free_percent": 100.1 })] {
            let mut params = json!({ "path": "/" });
            params.as_object_mut().expect("a map").extend(limit.as_object().expect("a map").clone());
            let error = bench.run("disk", params).await.expect_err("too little");
            assert_eq!(error.class, ErrorClass::Expectation);
            assert!(error.message.contains("expected at least") && error.hint.is_some(), "{error:?}");
        }
        let enough = json!({ "path": "/", "min_free": 1, "min_free_percent": 0, "min_inodes": 0 });
        assert!(bench.run("disk", enough).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_host_is_measured_as_this_machine_is() {
        let sshd = Sshd::start();
        let mut bench = Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir)), [sshd.spec("nas")]);
        let path = bench.at("not there/文");
        let local = bench.run("disk", json!({ "path": path })).await.expect("measures");
        bench.cx.host = bench.cx.services.host(Some("nas")).await.expect("connects");
        let remote = bench.run("disk", json!({ "path": path })).await.expect("measures");
        assert_eq!((&remote["path"], &remote["total"]), (&local["path"], &local["total"]));
    }

    #[test]
    fn what_the_dfs_of_the_world_print_is_read() {
        let gnu = "/data\0Filesystem     1024-blocks     Used Available Capacity Mounted on\n\
                   /dev/vda         263095296 14553088  80000000      16% /data dir\n\n\
                   Filesystem       Inodes  IUsed    IFree IUse% Mounted on\n\
                   /dev/vda       16777216 100000 16677216    1% /data dir\n";
        let expected = Output {
            path: "/data".into(),
            free: 80_000_000 * 1_024,
            total: 263_095_296 * 1_024,
            used_percent: 15.4,
            inodes_free: Some(16_677_216),
            inodes_total: Some(16_777_216),
        };
        assert_eq!(parse(gnu), Some(expected));
        let share = "/m\0Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                     //nas/my share 1000 400 600 40% /m\n\nFilesystem Inodes Used Available Capacity Mounted on\n\
                     //nas/my share 0 0 0 - /m\n";
        let parsed = parse(share).expect("reads");
        assert_eq!((parsed.free, parsed.inodes_free), (600 * 1_024, None));
        let busybox = "/\0Filesystem           1024-blocks    Used Available Capacity Mounted on\n\
                       /dev/root               100       50        50  50% /\n\n";
        assert_eq!(parse(busybox).expect("reads").total, 102_400);
        assert_eq!(parse("df: not found"), None);
    }
}
