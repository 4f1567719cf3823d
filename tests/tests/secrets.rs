//! Secrets: a canary goes through a whole run, is used for real, and is then looked for in everything that was written.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tests::{
    folders::{Folders, said},
    lab::binaries,
};

const CANARY: &str = "c4n4ry/Zwitscher€+7 &x";
/// As base64, URL-encoded and in hex, made by other programs than ours.
const FORMS: &str = r#"printf '%s\n' "$TOKEN"; printf %s "$TOKEN" | base64 -w0; echo; printf 'user:%s' "$TOKEN" | base64 -w0; echo
python3 -c 'import os,urllib.parse as u; t=os.environ["TOKEN"]; print(u.quote(t,safe="")); print(u.quote_plus(t)); print(t.encode().hex())'"#;

fn shakedown(folders: &Folders, argv: &[&str]) -> Output {
    folders.command(binaries::shakedown(), argv).env("CANARY", CANARY).output().expect("it starts")
}

/// The parts of the canary that betray it in whatever form.
fn forms() -> [String; 6] {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = |text: &str| {
        let run = Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -w0", "sh", text]).output();
        String::from_utf8(run.expect("base64 runs").stdout).expect("text")
    };
    // Of base64 all but what depends on what stands beside it.
    let whole = |text: String, skip: usize| text[skip..text.len() - 4].to_owned();
    [
        CANARY.to_owned(),
        "c4n4ry/Zwit".to_owned(),
        "c4n4ry%2FZwit".to_owned(),
        hex[..20].to_owned(),
        whole(base64(CANARY), 0),
        whole(base64(&format!("user:{CANARY}")), 8),
    ]
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}

#[test]
fn no_byte_of_a_secret_is_in_anything_that_a_run_writes() {
    let dir = Folders::new();
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("token");
    std::fs::write(&secret, format!("{CANARY}\n")).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let playbook = format!(
        r#"
name: canary
params: {{ place: {{ type: path, default: "{}" }} }}
secrets:
  token: {{ file: "${{{{ params.place }}}}" }}
  other: {{ env: CANARY }}
vars: {{ header: "Bearer ${{{{ secrets.token }}}}" }}
precheck:
  forms:
    command: {{ shell: |{FORMS}, env: {{ TOKEN: "${{{{ secrets.token }}}}" }}, reads: true }}
    expect: size(out.stdout) > 50
prepare:
  used:
    command: {{ run: [sh, -c, 'read line; printf "%s" "$line" | sha256sum; echo "$line"; echo "$line" >&2'], stdin: "${{{{ vars.header }}}}" }}
    undo: {{ command: {{ run: [cat], stdin: "${{{{ secrets.other }}}}" }} }}
  cut:
    command: {{ shell: 'head -c 131060 /dev/zero | tr "\0" x; printf %s "$TOKEN"; head -c 300000 /dev/zero | tr "\0" y', env: {{ TOKEN: "${{{{ secrets.token }}}}" }}, reads: true }}
  binary:
    command: {{ shell: 'printf "\377\376%s\n" "$TOKEN"', env: {{ TOKEN: "${{{{ secrets.token }}}}" }}, reads: true }}
  argv:
    needs: [used]
    command: {{ run: [echo, "${{{{ secrets.token }}}}"], reads: true }}
    continue_on_error: true
monitor:
  seen:
    wait:
      until: {{ command: {{ shell: 'echo "$TOKEN"', env: {{ TOKEN: "${{{{ secrets.token }}}}" }}, reads: true }} }}
      succeed_when: out.stdout.startsWith("⟪secret ")
    timeout: 60s
  fails:
    needs: [seen]
    command: {{ shell: 'echo "refused: $TOKEN" >&2; exit 1', env: {{ TOKEN: "${{{{ secrets.token }}}}" }}, reads: true }}
"#,
        secret.display(),
    )
    .replace(&format!("|{FORMS}"), &serde_json::to_string(FORMS).expect("text"));
    std::fs::write(dir.path("test.yaml"), playbook).expect("written");
    let run = shakedown(
        &dir,
        &[
            "run",
            "test.yaml",
            "--no-input",
            "--report",
            "json=report.json",
            "--report",
            "markdown=report.md",
            "--events",
            "events.jsonl",
        ],
    );
    assert_eq!(run.status.code(), Some(2), "{}", said(&run));
    let report = std::fs::read_to_string(dir.path("report.json")).expect("a report");
    let used = CANARY.to_owned();
    let sum = Command::new("sh")
        .args(["-c", "printf 'Bearer %s' \"$1\" | sha256sum | cut -c1-64", "sh", &used])
        .output()
        .expect("sha256sum runs");
    let sum = String::from_utf8(sum.stdout).expect("text");
    assert!(report.contains(sum.trim()), "the secret itself was used: {report}");
    assert!(report.contains("refused: ⟪secret"), "{report}");
    assert!(report.contains("cannot stand in an argument list"), "{report}");

    let mut written = vec![("the terminal".to_owned(), [run.stdout, run.stderr].concat())];
    for argv in
        [&["plan", "test.yaml", "--format", "json"][..], &["plan", "test.yaml"], &["runs"], &["recover"]]
    {
        let output = shakedown(&dir, argv);
        written.push((argv.join(" "), [output.stdout, output.stderr].concat()));
    }
    for path in [dir.dir.path(), dir.state.path()].into_iter().flat_map(files) {
        written.push((path.display().to_string(), std::fs::read(&path).expect("read")));
    }
    assert!(written.iter().any(|(name, _)| name.ends_with("journal.sqlite")), "the journal is among them");
    let forms = forms();
    for (name, bytes) in &written {
        let betrays = forms.iter().find(|form| memchr::memmem::find(bytes, form.as_bytes()).is_some());
        assert_eq!(betrays, None, "{name}: {}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_secret_that_is_not_found_stops_the_run_before_it_begins() {
    let dir = Folders::new();
    let playbook = "name: none\nsecrets: { token: { env: NO_SUCH_VARIABLE } }\nprepare:\n  it:\n    file: { create: made, text: x }\n  \
                    use:\n    command: { run: [cat], stdin: \"${{ secrets.token }}\", reads: true }\n";
    std::fs::write(dir.path("test.yaml"), playbook).expect("written");
    let run = shakedown(&dir, &["run", "test.yaml", "--no-input"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(said.contains("`NO_SUCH_VARIABLE` is not set"), "{said}");
    assert!(!dir.path("made").exists());
}

#[test]
fn a_credential_of_the_unit_is_found() {
    let dir = Folders::new();
    let folder = dir.path("credentials");
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("token"), CANARY).expect("written");
    let playbook = "name: unit\nsecrets: { token: { credential: token } }\nprecheck:\n  it:\n    \
                    command: { shell: 'test \"$TOKEN\" = \"$CANARY\"', env: { TOKEN: \"${{ secrets.token }}\" }, reads: true }\n";
    std::fs::write(dir.path("test.yaml"), playbook).expect("written");
    let mut command = dir.command(binaries::shakedown(), &["run", "test.yaml", "--no-input"]);
    let run =
        command.env("CANARY", CANARY).env("CREDENTIALS_DIRECTORY", &folder).output().expect("it starts");
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
}
