//! What became of a file of a host that is not where it was: no word of its end comes from there, so it is searched for.

use super::{folder_of, identity, scripts};
use crate::{
    file::{
        Mounts,
        trace::{Fate, Lost},
    },
    sh::plain,
};
use engine::{
    StepError,
    host::{Exec, Output},
};
use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// Searches for it; `exec` runs a script there.
pub(crate) async fn fate(
    lost: &Lost<'_>,
    exec: impl AsyncFnOnce(Exec) -> Result<Output, StepError>,
) -> Result<Fate, StepError> {
    let (made, folder) = (lost.made, plain(&lost.folder.to_string_lossy()));
    let mount = format!("{}:{}", rustix::fs::major(made.device()), rustix::fs::minor(made.device()));
    // A folder that has another name is mostly not far from where it was.
    let near = folder_of(&folder);
    let inode = made.inode().to_string();
    let born = made.born().map(|born| format!("{}.{:09}", born / 1_000_000_000, born % 1_000_000_000));
    let known = format!("{inode} {}", born.unwrap_or_default());
    let device = made.device().to_string();
    let args = [&*folder, &inode, &mount, &near, &known, &device];
    let done = exec(scripts::exec(scripts::FIND, &args).repeatable()).await?;
    let mut rest = done.stdout.as_slice();
    // What was found, each with its path as bytes; then what the script says of its search.
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\0\n") {
        let (record, more) = (&rest[..end], &rest[end + 2..]);
        rest = more;
        let Some(at) = record.windows(4).position(|start| start == b"@at|") else { continue };
        let record = &record[at + 4..];
        let Some(line) = record.iter().position(|byte| *byte == b'\n') else { continue };
        let is = identity(&String::from_utf8_lossy(&record[..line]), made.boot());
        if is.is_some_and(|found| found.is(made)) {
            return Ok(Fate::At(PathBuf::from(OsString::from_vec(record[line + 1..].to_vec()))));
        }
    }
    let text = String::from_utf8_lossy(rest);
    let said = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let boot = said("@boot|").unwrap_or_default();
    // In the place of its folder may be no other one: that could be a view of another, which hides it.
    let same = match said("@folder|") {
        Some("nothing") => true,
        Some(raw) => lost.stood.zip(identity(raw, boot)).is_some_and(|(stood, now)| now.is(stood)),
        None => false,
    };
    let mounts: Vec<&[u8]> = rest
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"@mounted|".as_slice()))
        .collect();
    let visible =
        !mounts.is_empty() && Mounts::parse(&mounts.join(&b'\n'), made.device()).are_of(lost.mounts);
    Ok(match said("@seen").is_some() && same && visible {
        true => Fate::Deleted,
        false => Fate::Unknown("it was deleted or moved: not all of its file system can be searched".into()),
    })
}
