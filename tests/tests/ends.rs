//! It always ends, whatever it is given: each row starts the real program, which ends by itself, with the exit code and the words
//! that are expected.

use std::{
    fmt::Write as _,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
};
use tests::{
    folders::{Folders, said},
    lab::binaries,
};

/// Seconds after which a program that hangs is ended: no bound on its speed.
const WATCHDOG: &str = "120";
/// The memory that it may map, in bytes: what reads without a bound does not get its exit code.
const MEMORY: &str = "1073741824";

/// What may stand where a file is expected, and what is said of it. One row of these is a file whose length is no bound.
const THINGS: [(&str, &str); 6] = [
    ("pipe", "it is a pipe, expected a file"),
    ("socket", "it is a socket, expected a file"),
    ("folder", "it is a folder, expected a file"),
    ("device", "it is a device, expected a file"),
    // It calls itself a file. Who may not open it is told so.
    ("stream", "cannot read"),
    ("large", "it is larger than"),
];

fn things() -> (Folders, UnixListener) {
    let folders = Folders::new();
    let mkfifo = Command::new("mkfifo").arg(folders.path("pipe")).status().expect("it starts");
    assert!(mkfifo.success());
    let socket = UnixListener::bind(folders.path("socket")).expect("a socket");
    std::fs::create_dir(folders.path("folder")).expect("a folder");
    for (name, target) in [("device", "/dev/zero"), ("stream", "/proc/kmsg")] {
        std::os::unix::fs::symlink(target, folders.path(name)).expect("a link");
    }
    let large = std::fs::File::create(folders.path("large")).expect("a file");
    // All of it is a hole.
    large.set_len(1 << 40).expect("a file");
    (folders, socket)
}

/// Runs the program with its limits set by words before it.
fn limited(folders: &Folders, limits: &[&str], argv: &[&str]) -> Output {
    let mut words = vec!["--signal=KILL", WATCHDOG];
    words.extend(limits);
    let program = binaries::shakedown_with_faults().display().to_string();
    words.push(&program);
    words.extend(argv);
    folders.command(Path::new("timeout"), &words).output().expect("it starts")
}

/// What it gives for each thing is as expected, all rows at once.
#[track_caller]
fn each(
    code: i32,
    but: &[&str],
    words: impl Fn(&str, &str) -> String,
    argv: impl Fn(&str) -> Vec<String>,
    playbook: impl Fn(&str) -> String,
) {
    let (folders, _socket) = things();
    let mut wrong = String::new();
    for (thing, says) in THINGS.iter().filter(|(thing, _)| !but.contains(thing)) {
        std::fs::write(folders.path("it.yaml"), playbook(thing)).expect("a file");
        let argv = argv(thing);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let output = limited(&folders, &["prlimit", &format!("--as={MEMORY}"), "--"], &argv);
        let text = said(&output).replace('\n', " ");
        let expected = words(thing, says);
        if output.status.code() != Some(code) || !text.contains(&expected) {
            let _written =
                writeln!(wrong, "{thing}: {}, expected {code} and `{expected}`: {text}", output.status);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

const PLAIN: &str = "name: x\nprecheck: { a: { disk: { path: / } } }\n";

fn words_of(argv: &str, thing: &str) -> Vec<String> {
    argv.split(' ').map(|word| word.replace('@', thing)).collect()
}

/// A file that is named on the command line, in place of `@`.
#[track_caller]
fn argument(argv: &str, but: &[&str]) {
    each(3, but, |_, says| says.to_owned(), |thing| words_of(argv, thing), |_| PLAIN.to_owned());
}

/// A file that a step reads, in place of `@`.
#[track_caller]
fn step(phase: &str, code: i32, step: &str, but: &[&str]) {
    each(
        code,
        but,
        |_, says| says.to_owned(),
        |_| words_of("run it.yaml --no-input", ""),
        |thing| format!("name: x\n{phase}: {{ a: {{ {}, timeout: 20s }} }}\n", step.replace('@', thing)),
    );
}

#[test]
fn a_playbook() {
    // Its own words for what is too large are tested by `hostile.rs`.
    argument("check @", &["large"]);
    argument("run @", &["large"]);
}

#[test]
fn params() {
    argument("run it.yaml --params @", &[]);
}

#[test]
fn an_inventory() {
    argument("run it.yaml --hosts @", &["large"]);
}

#[test]
fn a_plan() {
    argument("run --plan @", &[]);
}

#[test]
fn a_template() {
    let (folders, _socket) = things();
    for (thing, _) in THINGS.iter().filter(|(thing, _)| *thing != "large") {
        std::os::unix::fs::symlink(thing, folders.path(&format!("{thing}.hbs"))).expect("a link");
        std::fs::write(folders.path("it.yaml"), PLAIN).expect("a file");
        let report = format!("{thing}.hbs=out");
        let output = limited(&folders, &[], &["run", "it.yaml", "--report", &report]);
        assert_eq!(output.status.code(), Some(3), "{thing}: {}", said(&output));
        assert!(said(&output).contains("expected a file"), "{thing}: {}", said(&output));
    }
}

/// A shell's `<(…)` is held open by somebody who is there: that is read to its end.
#[test]
fn what_a_shell_gives_by_a_pipe_is_read() {
    let folders = Folders::new();
    let playbook = "name: it\nparams: { word: { type: string } }\nprecheck:\n  it: { command: { run: [test, \"${{ params.word }}\", \
                    '=', given], reads: true } }\n";
    let line = format!(
        "exec \"$0\" run <(printf '%s' '{}') --params <(sleep 0.2; echo 'word: given')",
        playbook.replace('\'', "'\\''")
    );
    let shakedown = binaries::shakedown().to_str().expect("a path");
    let output = folders.command(Path::new("bash"), &["-c", &line, shakedown]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_include() {
    each(
        3,
        &["large"],
        |_, says| says.to_owned(),
        |_| words_of("check it.yaml", ""),
        |thing| format!("name: x\nprecheck: {{ a: {{ include: {thing} }} }}\n"),
    );
}

#[test]
fn load_of_an_expression() {
    each(
        3,
        &[],
        |_, says| says.split(',').next().unwrap_or_default().to_owned(),
        |_| words_of("run it.yaml --no-input", ""),
        |thing| {
            format!(
                "name: x\nvars: {{ v: \"${{{{ load('{thing}') }}}}\" }}\nprecheck: {{ a: {{ when: vars.v == 1, disk: {{ path: / }} }} }}\n"
            )
        },
    );
}

#[test]
fn a_secret() {
    each(
        3,
        &["large"],
        |_, says| says.to_owned(),
        |_| words_of("run it.yaml --no-input", ""),
        |thing| {
            format!(
                "name: x\nsecrets: {{ s: {{ file: {thing} }} }}\nprecheck: {{ a: {{ command: {{ run: [env], env: {{ S: \"${{{{ secrets.s }}}}\" }}, reads: true }} }} }}\n"
            )
        },
    );
}

#[test]
fn hash_file_and_pid_file() {
    // A large one is read for as long as the step may take.
    step("precheck", 1, "hash: { path: @ }", &["large"]);
    step("monitor", 5, "file: { copy: @, to: new }", &["large"]);
    step("precheck", 1, "process: { find: { pid_file: @ } }", &["large"]);
}

#[test]
fn a_file_that_does_not_come_to_an_end() {
    let (folders, _socket) = things();
    for step in ["hash: { path: large }", "file: { copy: large, to: new }"] {
        let playbook = format!("name: x\nmonitor: {{ a: {{ {step}, timeout: 500ms }} }}\n");
        std::fs::write(folders.path("it.yaml"), playbook).expect("a file");
        let output = limited(&folders, &[], &["run", "it.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{step}: {}", said(&output));
        assert!(said(&output).contains("did not finish within 500 ms"), "{step}: {}", said(&output));
        assert!(!folders.path("new").exists(), "{step}");
    }
}

#[test]
fn json() {
    // It is refused by its length, before anything is read.
    step("precheck", 1, "json: { path: @, get: \"\" }", &["large"]);
    step(
        "monitor",
        5,
        "json: { path: it.json, create: true, lock: @, set: { at: \"\", value: {} } }",
        &["stream", "large"],
    );
}

#[test]
fn a_database() {
    for (phase, code, work) in
        [("precheck", 1, "query: SELECT 1"), ("monitor", 5, "insert: { into: t, values: { a: 1 } }")]
    {
        each(
            code,
            &["large"],
            |thing, _| match thing {
                "stream" => "is a file that the kernel makes up, expected a database".to_owned(),
                thing => format!("is a {thing}, expected a database"),
            },
            |_| words_of("run it.yaml --no-input", ""),
            |thing| format!("name: x\n{phase}: {{ a: {{ sqlite: {{ database: {thing}, {work} }} }} }}\n"),
        );
    }
}

#[test]
fn what_is_sent_and_who_is_trusted() {
    step(
        "precheck",
        1,
        "http: { url: \"http://127.0.0.1:9/\", method: POST, reads: true, file: @ }",
        &["stream", "large"],
    );
    step("precheck", 1, "postgres: { url: \"postgres://u@127.0.0.1:9/d\", ca: @, query: SELECT 1 }", &[]);
}

/// Files are made before, and undone after what goes wrong.
const MADE: &str = "name: x
prepare: { made: { file: { create: made.txt, text: x } } }
monitor: { work: { @, timeout: 1s } }
";

fn made(folders: &Folders, work: &str) {
    std::fs::write(folders.path("it.yaml"), MADE.replace('@', work)).expect("a file");
}

#[test]
fn a_file_system_that_does_not_answer_keeps_nobody_at_the_end() {
    let folders = Folders::new();
    std::fs::create_dir(folders.path("mount")).expect("a folder");
    // Whoever has it open never answers the kernel.
    let script = "exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none mount && echo up; read end";
    let mut server = folders
        .command(Path::new("unshare"), &["--mount", "--propagation=unchanged", "sh", "-c", script])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut up = [0; 2];
    std::io::Read::read_exact(server.stdout.as_mut().expect("a pipe"), &mut up).expect("it is mounted");
    for work in ["hash: { path: mount/x }", "file: { copy: mount/x, to: new }"] {
        made(&folders, work);
        let (target, there) = (server.id().to_string(), format!("--wdns={}", folders.dir.path().display()));
        let inside = ["nsenter", "--mount", "--target", &target, &there, "--"];
        let output = limited(&folders, &inside, &["run", "it.yaml"]);
        let text = said(&output);
        assert!(text.contains("did not finish within 1 s") && text.contains("left 0"), "{text}");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(!folders.path("made.txt").exists());
    }
    drop(server.stdin.take());
    let _gone = Command::new("umount").arg("-l").arg(folders.path("mount")).status();
    server.wait().expect("it ends");
}

#[test]
fn a_task_that_panics_is_a_failed_step_and_is_undone() {
    for point in ["before:work", "after:work", "before-undo:work", "after-undo:work"] {
        let folders = Folders::new();
        made(&folders, "file: { create: work.txt, text: x }");
        let mut command = folders.command(binaries::shakedown_with_faults(), &["run", "it.yaml"]);
        let output = command.env("SHAKEDOWN_FAULTS", format!("panic:{point}")).output().expect("it starts");
        let text = said(&output);
        assert!(text.contains("the program broke off here: made to panic"), "{point}: {text}");
        assert!(!folders.path("made.txt").exists(), "{point}: the others are undone");
        // What the undo was about cannot be told where that broke off.
        let code = if point.contains("undo") { 4 } else { 5 };
        assert_eq!(output.status.code(), Some(code), "{point}: {text}");
        assert_eq!(folders.path("work.txt").exists(), point == "before-undo:work", "{point}: {text}");
    }
}

#[test]
fn no_threads_no_processes_and_no_files_end_it_with_a_word() {
    let work = "command: { run: [\"true\"], reads: true }";
    for count in 1..40 {
        let folders = Folders::new();
        made(&folders, work);
        let output = limited(&folders, &["prlimit", &format!("--nofile={count}"), "--"], &["run", "it.yaml"]);
        let text = said(&output);
        assert!(!text.contains("panicked"), "{count} files: {text}");
        // With fewer it cannot even be loaded.
        assert!(matches!(output.status.code(), Some(0 | 3 | 5 | 2 | 4 | 127)), "{count} files: {text}");
        assert!(!folders.path("made.txt").exists(), "{count} files: {text}");
    }
    for count in 1..16 {
        let folders = Folders::new();
        made(&folders, work);
        for path in [folders.dir.path(), folders.state.path()] {
            std::os::unix::fs::chown(path, Some(64_321), Some(64_321)).expect("given away");
        }
        // A user that nobody else is: the limit counts all threads of the user.
        let limits = [
            "setpriv",
            "--reuid=64321",
            "--regid=64321",
            "--clear-groups",
            "prlimit",
            &format!("--nproc={count}"),
            "--",
        ];
        let output = limited(&folders, &limits, &["run", "it.yaml"]);
        let text = said(&output);
        assert!(!text.contains("panicked"), "{count} threads: {text}");
        assert!(
            matches!(output.status.code(), Some(0 | 2 | 3 | 5)),
            "{count} threads: {}: {text}",
            output.status
        );
        assert!(!folders.path("made.txt").exists(), "{count} threads: {text}");
    }
}

#[test]
fn a_file_that_may_not_become_so_large_fails_its_step_and_no_command_inherits_that() {
    let folders = Folders::new();
    made(&folders, "file: { create: large.txt, size: 8MiB }");
    let limits = ["prlimit", "--fsize=4194304", "--"];
    let output = limited(&folders, &limits, &["run", "it.yaml"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(
        text.contains("File too large") && text.contains("ulimit -f") && text.contains("left 0"),
        "{text}"
    );
    assert!(!folders.path("made.txt").exists() && !folders.path("large.txt").exists());
    // The 25th bit: that of SIGXFSZ.
    made(
        &folders,
        "command: { shell: 'grep -q \"SigIgn:.*[02468ace]......$\" /proc/self/status', reads: true }",
    );
    let output = limited(&folders, &limits, &["run", "it.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}
