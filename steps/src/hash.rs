//! `hash`: checksums of a file, here or on a host.

use crate::hex::hex;
use engine::{
    Step, StepError,
    error::ErrorClass,
    host::Exec,
    quantity::Bytes,
    step::{Context, Description, Docs, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::{fs::File, io::Read};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How often progress is told, in bytes.
const TELL: u64 = 4 << 20;

/// The step type.
pub struct Hash;

/// A checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1; only to compare with what others have noted.
    Sha1,
    /// MD5; only to compare with what others have noted.
    Md5,
    /// BLAKE3.
    Blake3,
}

/// A file and the checksums wanted of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The file.
    path: String,
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
    /// The file.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
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

impl Algorithm {
    /// The program of coreutils, and openssl's name for it.
    fn tools(self) -> (&'static str, &'static str) {
        match self {
            Self::Sha256 => ("sha256sum", "sha256"),
            Self::Sha512 => ("sha512sum", "sha512"),
            Self::Sha1 => ("sha1sum", "sha1"),
            Self::Md5 => ("md5sum", "md5"),
            Self::Blake3 => ("b3sum", ""),
        }
    }
}

impl Step for Hash {
    const KIND: &'static str = "hash";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "checksums of a file, here or on a host",
            details: "Several `algorithms` are computed in one pass over the file. On a host its own tools are used \
                      (`sha256sum` and the like, else `openssl dgst`), so that the file does not cross the network. \
                      `equals` compares with a known checksum.",
            example: "digest:\n  hash: { path: /data/media/a.mp4 }\nintact:\n  on: nas\n  hash: { path: /volume1/media/a.mp4 }\n  \
                      expect: out.sha256 == steps.digest.out.sha256\n",
            errors: &[
                ("not-found", "there is no such file; `ls -l FOLDER` shows what is there"),
                ("denied", "this user may not read it; `namei -l PATH` shows why"),
                ("expectation", "the checksum is another than `equals`"),
                ("unsupported", "the host has no tool for this algorithm; use sha256, or install coreutils"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let names = if view.has("algorithms") { view.words("algorithms") } else { "sha256".to_owned() };
        Description::reads(format!("{names} of {}", view.show("path")))
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        let algorithms = match params.algorithms.as_slice() {
            [] => vec![Algorithm::Sha256],
            some => some.to_vec(),
        };
        let mut output = match cx.host.is_local() {
            true => local(cx, &params.path, &algorithms).await?,
            false => remote(cx, &params.path, &algorithms).await?,
        };
        if let Some(wanted) = &params.equals {
            let found = output.slot(algorithms[0]).clone().unwrap_or_default();
            if !found.eq_ignore_ascii_case(wanted) {
                return Err(StepError::expectation(format!(
                    "`{}`: expected `{wanted}`, found `{found}`",
                    params.path
                )));
            }
        }
        Ok(output)
    }

    fn summary(&self, output: &Output) -> String {
        let all = [&output.sha256, &output.sha512, &output.sha1, &output.md5, &output.blake3];
        let first =
            all.into_iter().flatten().next().map(|hex| hex.get(..12).unwrap_or(hex)).unwrap_or_default();
        format!("{first}… {}", Bytes(output.size))
    }
}

/// A checksum under way.
enum Running {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Sha1(sha1::Sha1),
    Md5(md5::Md5),
    Blake3(Box<blake3::Hasher>),
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
            Algorithm::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Algorithm::Md5 => Self::Md5(md5::Md5::new()),
            Algorithm::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
            Self::Sha1(hasher) => hex(&hasher.finalize()),
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Blake3(hasher) => hasher.finalize().to_hex().to_string(),
        }
    }
}

async fn local(cx: &Context, path: &str, algorithms: &[Algorithm]) -> Result<Output, StepError> {
    let (cx, path, algorithms) = (cx.clone(), path.to_owned(), algorithms.to_vec());
    let task = tokio::task::spawn_blocking(move || read(&cx, path, &algorithms));
    task.await.map_err(|error| StepError::internal(format!("the reading task ended: {error}")))?
}

fn read(cx: &Context, path: String, algorithms: &[Algorithm]) -> Result<Output, StepError> {
    let cannot = |error: std::io::Error| {
        let made = StepError::io(format!("read `{path}`"), &error);
        match made.class {
            ErrorClass::NotFound => {
                let folder = std::path::Path::new(&path).parent().map(|folder| folder.display().to_string());
                made.hint(format!("look what is there: ls -l {}", folder.unwrap_or_default()))
            }
            _ => made,
        }
    };
    let mut file = File::open(&path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(StepError::new(ErrorClass::Invalid, format!("`{path}` is a folder, expected a file")));
    }
    let mut running: Vec<Running> = algorithms.iter().map(|algorithm| Running::new(*algorithm)).collect();
    let mut buffer = vec![0u8; CHUNK];
    let (mut size, mut told) = (0u64, 0u64);
    loop {
        if cx.cancel.is_cancelled() {
            return Err(StepError::new(ErrorClass::Cancelled, format!("stopped while reading `{path}`")));
        }
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cannot(error)),
        };
        running.iter_mut().for_each(|hasher| hasher.update(&buffer[..count]));
        size += count as u64;
        if size - told >= TELL {
            told = size;
            cx.bytes(size, metadata.len());
        }
    }
    let mut output = Output { path: path.clone(), size, ..Output::default() };
    for (algorithm, hasher) in algorithms.iter().zip(running) {
        *output.slot(*algorithm) = Some(hasher.finish());
    }
    Ok(output)
}

/// `$1` is the file, then pairs of a coreutils program and openssl's name. Prints the size, then a hex a line.
const REMOTE: &str = r#"
file=$1; shift
[ -e "$file" ] || { echo "no such file" >&2; exit 44; }
[ -d "$file" ] && { echo "is a folder" >&2; exit 45; }
[ -r "$file" ] || { echo "permission denied" >&2; exit 46; }
wc -c <"$file" || exit 46
while [ $# -ge 2 ]; do
  if command -v "$1" >/dev/null 2>&1; then "$1" <"$file" | cut -d' ' -f1
  elif [ -n "$2" ] && command -v openssl >/dev/null 2>&1; then openssl dgst -"$2" -r <"$file" | cut -d' ' -f1
  else echo "neither $1 nor openssl" >&2; exit 47; fi
  shift 2
done
"#;

async fn remote(cx: &Context, path: &str, algorithms: &[Algorithm]) -> Result<Output, StepError> {
    let mut argv = vec!["/bin/sh".to_owned(), "-c".into(), REMOTE.into(), "sh".into(), path.to_owned()];
    for algorithm in algorithms {
        let (program, openssl) = algorithm.tools();
        argv.extend([program.to_owned(), openssl.to_owned()]);
    }
    let host = cx.host.name().to_owned();
    let done = cx.exec(Exec::new(argv).repeatable()).await?;
    let wrong = |class: ErrorClass, what: &str| {
        StepError::new(class, format!("`{path}` on `{host}`: {what}"))
            .hint(format!("look what is there: ssh {host} ls -l {path}"))
    };
    match done.code {
        Some(44) => return Err(wrong(ErrorClass::NotFound, "there is no such file")),
        Some(45) => return Err(wrong(ErrorClass::Invalid, "it is a folder, expected a file")),
        Some(46) => return Err(wrong(ErrorClass::Denied, "permission denied")),
        Some(47) => return Err(wrong(ErrorClass::Unsupported, done.stderr_text().trim())),
        _ => {}
    }
    let done = done.require_success("checksum")?;
    let text = done.stdout_text();
    let mut lines = text.lines().map(str::trim);
    let size = lines.next().and_then(|line| line.parse().ok());
    let size = size.ok_or_else(|| wrong(ErrorClass::Internal, &format!("unexpected answer `{text}`")))?;
    let mut output = Output { path: path.to_owned(), size, ..Output::default() };
    for algorithm in algorithms {
        let hex = lines.next().filter(|hex| hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit()));
        let hex = hex.ok_or_else(|| wrong(ErrorClass::Internal, &format!("unexpected answer `{text}`")))?;
        *output.slot(*algorithm) = Some(hex.to_owned());
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use engine::error::ErrorClass;
    use serde_json::json;

    #[tokio::test]
    async fn all_algorithms_agree_with_their_published_vectors_in_one_pass() {
        let bench = Bench::new();
        std::fs::write(bench.path("媒体 a.txt"), "abc").unwrap();
        let all = json!(["sha256", "sha512", "sha1", "md5", "blake3"]);
        let out =
            bench.run("hash", json!({ "path": bench.at("媒体 a.txt"), "algorithms": all })).await.unwrap();
        // FIPS 180-4, RFC 1321 and the BLAKE3 paper's test vectors for "abc".
        assert_eq!(out["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(out["sha512"].as_str().unwrap().starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(out["sha1"], "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(out["md5"], "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(out["blake3"], "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(out["size"], 3);
    }

    #[tokio::test]
    async fn a_missing_file_and_a_wrong_sum_are_told_apart() {
        let bench = Bench::new();
        let error = bench.run("hash", json!({ "path": bench.at("no") })).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::NotFound);
        std::fs::write(bench.path("a"), "abc").unwrap();
        let error = bench.run("hash", json!({ "path": bench.at("a"), "equals": "00" })).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Expectation);
    }
}
