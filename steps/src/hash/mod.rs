//! `hash`: checksums of a file or of a whole folder, here or on a host.

mod algorithm;
mod local;
mod remote;
#[cfg(test)]
mod tests;
mod tree;

pub use algorithm::Algorithm;

use engine::{
    Step, StepError,
    error::ErrorClass,
    host::shell_word,
    quantity::Bytes,
    step::{Context, Description, Docs, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The step type.
pub struct Hash;

/// Exactly one of `path` and `tree`, and the checksums wanted of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The file.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    path: Option<String>,
    /// The folder, with all that is in it.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    tree: Option<String>,
    /// The checksums, made in one pass; sha256 if not given.
    #[serde(default)]
    algorithms: Vec<Algorithm>,
    /// The first checksum must be this, in hex.
    #[serde(default)]
    equals: Option<String>,
}

/// The checksums in lower-case hex; those that were not wanted are missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The file or folder.
    pub path: String,
    /// Its size in bytes; of a folder that of all files together.
    pub size: u64,
    /// `tree`: how many files are in it, at any depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Who read it: `local` (this program, here), `host-tool` (`sha256sum` and the like, on the host), `openssl` (on the
    /// host) or `streamed` (this program; the content crossed the network).
    #[serde(default)]
    pub via: Via,
    /// SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// SHA-512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
    /// SHA-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    /// MD5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// BLAKE3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// Who read the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// This program, on this machine.
    #[default]
    Local,
    /// A program of the host made for one checksum.
    HostTool,
    /// The host's `openssl`, for at least one of the checksums.
    Openssl,
    /// This program; the content crossed the network.
    Streamed,
}

impl Output {
    fn slot(&mut self, algorithm: Algorithm) -> &mut Option<String> {
        match algorithm {
            Algorithm::Sha256 => &mut self.sha256,
            Algorithm::Sha512 => &mut self.sha512,
            Algorithm::Sha1 => &mut self.sha1,
            Algorithm::Md5 => &mut self.md5,
            Algorithm::Blake3 => &mut self.blake3,
        }
    }
}

/// What was read of a file or a folder.
struct Found {
    size: u64,
    files: Option<u64>,
    via: Via,
    /// In the order of the algorithms.
    digests: Vec<String>,
}

impl Step for Hash {
    const KIND: &'static str = "hash";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "checksums of a file or of a whole folder, here or on a host",
            details: "Several `algorithms` are computed in one pass over the file. On a host its own tools are used \
                      (`sha256sum` and the like, else `openssl dgst`), so that the content does not cross the network; \
                      where it has neither for one of the algorithms, the content is streamed and hashed here, and `via` \
                      says so.\n\n`tree` gives one checksum for a folder, the same here and on a host: equal if and only \
                      if both hold the same names with the same content. It is the checksum of a list with one record \
                      for each entry at any depth, in the order of the bytes of their paths: `DIGEST  ./PATH` and a \
                      zero byte for a file (as `sha256sum -z` prints it), `folder  ./PATH` and a zero byte, \
                      `link  ./PATH`, a zero byte, the target of the link and a zero byte, and `other  ./PATH` and a zero \
                      byte for sockets and the like. Links are not followed; modes, owners and times do not \
                      count.\n\n`equals` compares with a known checksum.",
            example: "digest:\n  hash: { path: /data/media/a.mp4 }\nintact:\n  on: nas\n  hash: { path: /volume1/media/a.mp4 }\n  \
                      expect: out.sha256 == steps.digest.out.sha256\nall:\n  hash: { tree: /data/media }\n",
            errors: &[
                ("not-found", "there is no such file; `ls -l FOLDER` shows what is there"),
                ("denied", "this user may not read it; `namei -l PATH` shows why"),
                ("expectation", "the checksum is another than `equals`"),
                ("busy", "the file or folder changed while it was read"),
                ("unsupported", "the folder has too many entries for one list; hash its folders one by one"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let names = if view.has("algorithms") { view.words("algorithms") } else { "sha256".to_owned() };
        Description::reads(match view.has("tree") {
            true => format!("{names} of all in {}", view.show("tree")),
            false => format!("{names} of {}", view.show("path")),
        })
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        view.exactly_one(&["path", "tree"])
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        let algorithms = match params.algorithms.as_slice() {
            [] => vec![Algorithm::Sha256],
            some => some.to_vec(),
        };
        let (path, found) = match (&params.path, &params.tree, cx.host.is_local()) {
            (Some(path), None, true) => (path, local::file(cx, path, &algorithms).await?),
            (Some(path), None, false) => (path, remote::file(cx, path, &algorithms).await?),
            (None, Some(tree), true) => (tree, local::tree(cx, tree, &algorithms).await?),
            (None, Some(tree), false) => (tree, remote::tree(cx, tree, &algorithms).await?),
            _ => {
                return Err(StepError::new(ErrorClass::Invalid, "expected exactly one of `path` and `tree`"));
            }
        };
        let mut output = Output {
            path: path.clone(),
            size: found.size,
            files: found.files,
            via: found.via,
            ..Output::default()
        };
        for (algorithm, digest) in algorithms.iter().zip(found.digests) {
            *output.slot(*algorithm) = Some(digest);
        }
        if let Some(wanted) = &params.equals {
            let found = output.slot(algorithms[0]).clone().unwrap_or_default();
            if !found.eq_ignore_ascii_case(wanted) {
                return Err(StepError::expectation(format!(
                    "`{path}`: expected `{wanted}`, found `{found}`"
                )));
            }
        }
        Ok(output)
    }

    fn summary(&self, output: &Output) -> String {
        let all = [&output.sha256, &output.sha512, &output.sha1, &output.md5, &output.blake3];
        let first =
            all.into_iter().flatten().next().map(|hex| hex.get(..12).unwrap_or(hex)).unwrap_or_default();
        match output.files {
            Some(files) => format!("{first}… {files} files, {}", Bytes(output.size)),
            None => format!("{first}… {}", Bytes(output.size)),
        }
    }
}

/// A line that shows what is where something was expected; `on` is the host, if it is another.
fn look(path: &str, on: Option<&str>) -> String {
    let folder = std::path::Path::new(path).parent().map(|folder| folder.display().to_string());
    let folder = folder.filter(|folder| !folder.is_empty()).unwrap_or_else(|| ".".into());
    match on {
        Some(host) => format!("look what is there: ssh {host} ls -l {}", shell_word(&folder)),
        None => format!("look what is there: ls -l {}", shell_word(&folder)),
    }
}

/// It is not what it was a moment ago.
fn changed(path: &str, why: &str) -> StepError {
    StepError::new(ErrorClass::Busy, format!("`{path}` changed while it was read: {why}"))
        .hint("hash it when nobody writes to it")
}
