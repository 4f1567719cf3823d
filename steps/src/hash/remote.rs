//! Files and folders of a host: read there by its own tools, else streamed and hashed here.

use super::{
    Found, Via,
    algorithm::{Algorithm, Sums},
    changed, look,
    tree::{self, Entry, Kind},
};
use engine::{
    StepError,
    error::ErrorClass,
    host::{Exec, Output},
    step::Context,
};
use std::collections::BTreeSet;

/// How much of a file is fetched at once when it is streamed: a command each, so that none of it has to be kept.
const PIECE: usize = 8 << 20;
/// The longest list of a folder, in bytes; enough for some 250,000 entries.
const LIST: usize = 32 << 20;

/// Of pairs of a coreutils program and openssl's name, whether the host has one of each.
const HAVE: &str = r#"
have() {
  while [ $# -ge 2 ]; do
    command -v "$1" || { [ -n "$2" ] && command -v openssl; } || return 1
    shift 2
  done >/dev/null 2>&1
}"#;

/// `$1` is the file, then come such pairs. Prints the size, then who read it and a hex a line.
const FILE: &str = r#"
file=$1; shift
[ -e "$file" ] || { gone "$file" && exit 44; exit 46; }
[ -d "$file" ] && exit 45
[ -f "$file" ] || [ -b "$file" ] || exit 48
[ -r "$file" ] || exit 46
have "$@" || exit 47
wc -c <"$file" || exit 46
while [ $# -ge 2 ]; do
  if command -v "$1" >/dev/null 2>&1; then echo "tool $("$1" <"$file")"
  else echo "openssl $(openssl dgst -"$2" -r <"$file")"; fi
  shift 2
done
"#;

/// What tells whether a file is still the same.
const IDENTITY: &str = r#"
[ -e "$1" ] || { gone "$1" && exit 44; exit 46; }
[ -d "$1" ] && exit 45
[ -r "$1" ] || exit 46
stat -L -c '%s %Y %i' -- "$1""#;

/// The `$3` MiB behind the first `$2` MiB of a file.
const BLOCK: &str = r#"exec dd if="$1" bs=1048576 skip="$2" count="$3" 2>/dev/null"#;

/// All entries below the folder `$1`: records that end with a zero byte and begin with a letter for what they are; an `m`
/// if the host lacks a tool for one of the pairs behind it. Values never stand in the inner scripts.
const ENTRIES: &str = r#"
[ -e "$1" ] || { gone "$1" && exit 44; exit 46; }
[ -d "$1" ] || exit 45
CDPATH= cd -- "$1" || exit 46
shift; have "$@" || printf 'm\0'
find . -type f -exec sh -c 'stat -c "s%s" -- "$@" | tr "\n" "\0"; printf "f%s\0" "$@"' sh {} + || exit 46
find . -type d -exec sh -c 'printf "d%s\0" "$@"' sh {} + || exit 46
find . ! -type f ! -type d ! -type l -exec sh -c 'printf "o%s\0" "$@"' sh {} + || exit 46
find . -type l -exec sh -c 'for f; do
  t=$(readlink "$f" && printf x) || exit 1
  t=${t%x}; printf "l%s\0%s\0" "$f" "${t%?}"
done' sh {} + || exit 46"#;

/// The digests of all files below the folder `$1`, by the program `$2` or by openssl under its name `$3`: who reads them,
/// then `DIGEST  ./PATH`, each with a zero byte behind it. Programs that cannot print that get one file at a time.
const DIGESTS: &str = r#"
CDPATH= cd -- "$1" || exit 46
if command -v "$2" >/dev/null 2>&1; then
  printf 'tool\0'
  if "$2" -z /dev/null >/dev/null 2>&1; then find . -type f -exec "$2" -z {} + || exit 46
  else
    find . -type f -exec sh -c 't=$1; shift; for f; do
      h=$("$t" <"$f") || exit 1; printf "%s  %s\0" "${h%% *}" "$f"
    done' sh "$2" {} + || exit 46
  fi
else
  printf 'openssl\0'
  find . -type f -exec sh -c 't=$1; shift; for f; do
    h=$(openssl dgst -"$t" -r <"$f") || exit 1; printf "%s  %s\0" "${h%% *}" "$f"
  done' sh "$3" {} + || exit 46
fi"#;

/// Runs a script whose output is data: nothing is masked in it, and nothing of it is shown.
async fn script(cx: &Context, script: &str, args: &[&str], keep: usize) -> Result<Output, StepError> {
    let script = [crate::sh::GONE, script].concat();
    let argv = ["/bin/sh", "-c", &script, "sh"].into_iter().chain(args.iter().copied());
    cx.host.exec(Exec::new(argv).env("LC_ALL", "C").keep(keep).repeatable(), &cx.cancel).await
}

fn wrong(cx: &Context, path: &str, class: ErrorClass, what: &str) -> StepError {
    let host = cx.host.name();
    StepError::new(class, format!("`{path}` on `{host}`: {what}")).hint(look(path, Some(host)))
}

/// The output of a script that succeeded; none if the host has no tool.
fn done(cx: &Context, path: &str, output: Output) -> Result<Option<Output>, StepError> {
    let class = match output.code {
        Some(44) => return Err(wrong(cx, path, ErrorClass::NotFound, "there is no such file or folder")),
        Some(45) => {
            return Err(wrong(
                cx,
                path,
                ErrorClass::Invalid,
                "a file and a folder are not the same: `path` is for files, `tree` for folders",
            ));
        }
        Some(46) => ErrorClass::Denied,
        Some(48) => {
            let what = "it is no file: a pipe, a socket or a device has no end that could be hashed";
            return Err(wrong(cx, path, ErrorClass::Invalid, what));
        }
        Some(47) => return Ok(None),
        _ => return output.require_success("checksum").map(Some),
    };
    let said = output.stderr_text();
    let last = said.trim().lines().last().unwrap_or("permission denied");
    Err(match last.contains("No such file") {
        true => changed(path, last),
        false => wrong(cx, path, class, last),
    })
}

fn unexpected(cx: &Context, path: &str, answer: &str) -> StepError {
    let shown: String = answer.chars().take(200).collect();
    wrong(cx, path, ErrorClass::Internal, &format!("unexpected answer `{}`", shown.escape_debug()))
}

fn is_digest(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The path and the tools for each algorithm, as arguments.
fn with_tools<'a>(path: &'a str, algorithms: &[Algorithm]) -> Vec<&'a str> {
    let tools = algorithms.iter().map(|algorithm| algorithm.tools());
    std::iter::once(path).chain(tools.flat_map(|(program, openssl)| [program, openssl])).collect()
}

pub(super) async fn file(cx: &Context, path: &str, algorithms: &[Algorithm]) -> Result<Found, StepError> {
    let plain = crate::sh::plain(path);
    let output = script(cx, &[HAVE, FILE].concat(), &with_tools(&plain, algorithms), Exec::KEEP).await?;
    let Some(output) = done(cx, path, output)? else {
        let mut progress = 0;
        let (size, digests) = stream(cx, path, algorithms, &mut progress, None).await?;
        return Ok(Found { size, files: None, via: Via::Streamed, digests });
    };
    let text = output.stdout_text();
    let bad = || unexpected(cx, path, &text);
    let mut lines = text.lines().map(str::trim);
    let size = lines.next().and_then(|line| line.parse().ok()).ok_or_else(bad)?;
    let (mut via, mut digests) = (Via::HostTool, Vec::new());
    for _ in algorithms {
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        via = via.max(if words.next() == Some("openssl") { Via::Openssl } else { Via::HostTool });
        digests.push(words.next().filter(|word| is_digest(word)).ok_or_else(bad)?.to_owned());
    }
    Ok(Found { size, files: None, via, digests })
}

pub(super) async fn tree(cx: &Context, path: &str, algorithms: &[Algorithm]) -> Result<Found, StepError> {
    let plain = crate::sh::plain(path);
    let output = script(cx, &[HAVE, ENTRIES].concat(), &with_tools(&plain, algorithms), LIST).await?;
    let listed = Listed::read(&records(cx, path, output)?).ok_or_else(|| unexpected(cx, path, "no list"))?;
    let (via, size, files) = if listed.no_tool {
        let (size, files) = streamed(cx, path, &listed, algorithms).await?;
        (Via::Streamed, size, files)
    } else {
        let (via, files) = by_tools(cx, path, &listed, algorithms).await?;
        (via, listed.size, files)
    };
    let count = files.len() as u64;
    let entries = listed.others.into_iter().chain(files).collect();
    Ok(Found { size, files: Some(count), via, digests: tree::digests(entries, algorithms) })
}

/// What a folder holds.
#[derive(Default)]
struct Listed {
    files: BTreeSet<Vec<u8>>,
    /// Of all files.
    size: u64,
    others: Vec<Entry>,
    /// The host has no tool for one of the algorithms.
    no_tool: bool,
}

impl Listed {
    fn read(records: &[Vec<u8>]) -> Option<Self> {
        let (mut listed, mut sizes) = (Self::default(), 0);
        let mut records = records.iter();
        while let Some(record) = records.next() {
            let (letter, rest) = record.split_first()?;
            let path = rest.to_vec();
            match letter {
                b's' => {
                    listed.size += std::str::from_utf8(rest).ok()?.parse::<u64>().ok()?;
                    sizes += 1;
                }
                b'm' => listed.no_tool = true,
                b'f' => drop(listed.files.insert(path)),
                b'd' if rest == b"." => {}
                b'd' => listed.others.push(Entry { path, kind: Kind::Folder }),
                b'o' => listed.others.push(Entry { path, kind: Kind::Other }),
                b'l' => {
                    let target = records.next()?.clone();
                    listed.others.push(Entry { path, kind: Kind::Link(target) });
                }
                _ => return None,
            }
        }
        (sizes == listed.files.len()).then_some(listed)
    }
}

/// The records of a list that is whole.
fn records(cx: &Context, path: &str, output: Output) -> Result<Vec<Vec<u8>>, StepError> {
    if output.stdout_bytes > LIST as u64 {
        let message = format!("has more entries than fit into a list of {} MiB", LIST >> 20);
        return Err(
            wrong(cx, path, ErrorClass::Unsupported, &message).hint("hash the folders in it one by one")
        );
    }
    let Some(output) = done(cx, path, output)? else { return Ok(Vec::new()) };
    let mut records: Vec<Vec<u8>> = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    // Behind the last zero byte there is nothing.
    records.pop();
    Ok(records)
}

/// The files with their digests, each read by the tools of the host.
async fn by_tools(
    cx: &Context,
    path: &str,
    listed: &Listed,
    algorithms: &[Algorithm],
) -> Result<(Via, Vec<Entry>), StepError> {
    let mut via = Via::HostTool;
    let mut files: Vec<(Vec<u8>, Vec<String>)> =
        listed.files.iter().map(|path| (path.clone(), Vec::new())).collect();
    for algorithm in algorithms {
        let (program, openssl) = algorithm.tools();
        let mut found = records(
            cx,
            path,
            script(cx, DIGESTS, &[&crate::sh::plain(path), program, openssl], LIST).await?,
        )?
        .into_iter();
        match found.next().as_deref() {
            Some(b"tool") => {}
            Some(b"openssl") => via = Via::Openssl,
            _ => return Err(unexpected(cx, path, "no digests")),
        }
        let mut digests: Vec<(Vec<u8>, String)> = Vec::with_capacity(files.len());
        for record in found {
            let split = record.windows(2).position(|two| two == b"  ").unwrap_or(0);
            let digest = String::from_utf8_lossy(&record[..split]).into_owned();
            if !is_digest(&digest) {
                return Err(unexpected(cx, path, &String::from_utf8_lossy(&record)));
            }
            digests.push((record[split + 2..].to_vec(), digest));
        }
        digests.sort_unstable();
        if digests.len() != files.len() {
            return Err(changed(path, "files came or went"));
        }
        for ((file, all), (found, digest)) in files.iter_mut().zip(digests) {
            if *file != found {
                return Err(changed(path, "files came or went"));
            }
            all.push(digest);
        }
    }
    let files = files.into_iter().map(|(path, digests)| Entry { path, kind: Kind::File(digests) }).collect();
    Ok((via, files))
}

async fn streamed(
    cx: &Context,
    path: &str,
    listed: &Listed,
    algorithms: &[Algorithm],
) -> Result<(u64, Vec<Entry>), StepError> {
    let (mut size, mut files, mut progress) = (0, Vec::new(), 0);
    for name in &listed.files {
        let Ok(text) = std::str::from_utf8(name) else {
            let shown = String::from_utf8_lossy(name);
            let message =
                format!("the name `{shown}` is no UTF-8: its file can only be read by a tool of the host");
            return Err(wrong(cx, path, ErrorClass::Unsupported, &message)
                .hint(format!("install coreutils or openssl on `{}`", cx.host.name())));
        };
        let file = format!("{}/{text}", path.trim_end_matches('/'));
        let (read, digests) = stream(cx, &file, algorithms, &mut progress, Some(listed.size)).await?;
        size += read;
        files.push(Entry { path: name.clone(), kind: Kind::File(digests) });
    }
    Ok((size, files))
}

/// Fetches a file piece by piece and hashes it here. `progress` is how much of `total` has been read before.
async fn stream(
    cx: &Context,
    path: &str,
    algorithms: &[Algorithm],
    progress: &mut u64,
    total: Option<u64>,
) -> Result<(u64, Vec<String>), StepError> {
    let before = identity(cx, path).await?;
    let expected = before.split(' ').next().and_then(|size| size.parse::<u64>().ok());
    let expected = expected.ok_or_else(|| unexpected(cx, path, &before))?;
    let mut sums = Sums::new(algorithms);
    let mut size = 0u64;
    while size < expected {
        let (skip, count) = ((size >> 20).to_string(), (PIECE >> 20).to_string());
        let output = script(cx, BLOCK, &[&crate::sh::plain(path), &skip, &count], PIECE)
            .await?
            .require_success("dd")?;
        sums.update(&output.stdout);
        size += output.stdout_bytes;
        *progress += output.stdout_bytes;
        cx.bytes(*progress, total.unwrap_or(expected).max(*progress));
        if output.stdout_bytes < PIECE as u64 {
            break;
        }
    }
    if size != expected {
        return Err(changed(path, &format!("it had {expected} bytes, and {size} were read")));
    }
    let after = identity(cx, path).await?;
    match before == after {
        true => Ok((size, sums.finish())),
        false => Err(changed(path, "size, time or inode")),
    }
}

/// Size, time and inode.
async fn identity(cx: &Context, path: &str) -> Result<String, StepError> {
    let output = script(cx, IDENTITY, &[&crate::sh::plain(path)], Exec::KEEP).await?;
    let output = done(cx, path, output)?.ok_or_else(|| unexpected(cx, path, "47"))?;
    Ok(output.stdout_text().trim().to_owned())
}
