use crate::{
    ssh_host::{SshConnector, sshd::Sshd},
    testing::Bench,
};
use engine::error::ErrorClass;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    sync::Arc,
};

#[tokio::test]
async fn all_algorithms_agree_with_their_published_vectors_in_one_pass() {
    let bench = Bench::new();
    fs::write(bench.path("媒体 a.txt"), "abc").unwrap();
    let all = json!(["sha256", "sha512", "sha1", "md5", "blake3"]);
    let out = bench.run("hash", json!({ "path": bench.at("媒体 a.txt"), "algorithms": all })).await.unwrap();
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
    fs::write(bench.path("a"), "abc").unwrap();
    let error = bench.run("hash", json!({ "path": bench.at("a"), "equals": "00" })).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Expectation);
}

/// A folder that holds what is hard to name: a line feed, Chinese, quotes, a leading dash, an empty folder, links.
fn odd_tree(bench: &Bench, name: &str) -> String {
    let root = bench.path(name);
    fs::create_dir_all(root.join("媒体/空")).unwrap();
    fs::create_dir(root.join("a")).unwrap();
    for (path, content) in [
        ("a.txt", "one"),
        ("a/z", "two"),
        ("-n", "three"),
        ("媒体/行\n尾 '$(touch X)'\\", "四"),
        ("媒体/empty", ""),
    ] {
        fs::write(root.join(path), content).unwrap();
    }
    symlink("../a.txt", root.join("a/link")).unwrap();
    symlink("no\nwhere\n", root.join("dangling")).unwrap();
    bench.at(name)
}

/// The list of a folder as the documentation describes it, made by other programs, and its checksum.
fn by_shell(root: &str, tool: &str) -> String {
    let script = format!(
        r#"cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | while IFS= read -r -d '' f; do
        if [ -L "$f" ]; then printf 'link  %s\0' "$f"; find "$f" -printf '%l\0'
        elif [ -d "$f" ]; then printf 'folder  %s\0' "$f"
        elif [ -f "$f" ]; then {tool} -z -- "$f"
        else printf 'other  %s\0' "$f"; fi; done | {tool} | cut -d' ' -f1"#
    );
    let output = Command::new("bash").args(["-c", &script, "bash", root]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_tree_has_the_checksum_of_its_documented_list() {
    let bench = Bench::new();
    let tree = odd_tree(&bench, "树");
    let algorithms = json!(["sha256", "md5"]);
    let out = bench.run("hash", json!({ "tree": tree, "algorithms": algorithms })).await.unwrap();
    assert_eq!(out["sha256"], by_shell(&tree, "sha256sum"));
    assert_eq!(out["md5"], by_shell(&tree, "md5sum"));
    assert_eq!((&out["files"], &out["size"], &out["via"]), (&json!(5), &json!(14), &json!("local")));
    let empty = bench.at("empty");
    fs::create_dir(&empty).unwrap();
    let out = bench.run("hash", json!({ "tree": empty })).await.unwrap();
    assert_eq!(out["sha256"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let error = bench.run("hash", json!({ "tree": bench.at("树/a.txt") })).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Invalid);
    let error = bench.run("hash", json!({ "tree": bench.at("no") })).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NotFound);
}

#[tokio::test]
async fn trees_are_equal_exactly_if_names_kinds_and_contents_are() {
    let bench = Bench::new();
    let sum = async |tree: &str| bench.run("hash", json!({ "tree": tree })).await.unwrap()["sha256"].clone();
    let first = sum(&odd_tree(&bench, "first")).await;
    let second = odd_tree(&bench, "second");
    // What does not count: modes and times.
    fs::set_permissions(bench.path("second/a.txt"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sum(&second).await, first);
    let changes: [&dyn Fn(); 6] = [
        &|| fs::write(bench.path("second/a.txt"), "onf").unwrap(),
        &|| fs::rename(bench.path("second/a/z"), bench.path("second/a/y")).unwrap(),
        &|| fs::remove_dir(bench.path("second/媒体/空")).unwrap(),
        &|| {
            fs::remove_file(bench.path("second/dangling")).unwrap();
            symlink("no\nwhere", bench.path("second/dangling")).unwrap();
        },
        &|| {
            fs::remove_file(bench.path("second/a/link")).unwrap();
            fs::write(bench.path("second/a/link"), "../a.txt").unwrap();
        },
        &|| fs::write(bench.path("second/folder"), "").unwrap(),
    ];
    let mut seen = vec![first];
    for change in changes {
        change();
        let now = sum(&second).await;
        assert!(!seen.contains(&now));
        seen.push(now);
    }
}

/// A folder with the programs of this machine but those whose names `lacks` says.
fn programs(bench: &Bench, lacks: impl Fn(&str) -> bool) -> String {
    let folder = bench.path("bin");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir("/usr/bin").unwrap().chain(fs::read_dir("/bin").unwrap()) {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !lacks(&name) && !folder.join(&name).exists() {
            symlink(entry.path(), folder.join(&name)).unwrap();
        }
    }
    folder.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gives_the_same_by_whatever_it_has() {
    for (via, lacks) in [
        ("host-tool", None::<fn(&str) -> bool>),
        ("openssl", Some(|name| name.ends_with("sum"))),
        ("streamed", Some(|name| name.ends_with("sum") || name == "openssl")),
    ] {
        let setup = Bench::new();
        let settings = lacks.map(|lacks| format!("SetEnv PATH={}", programs(&setup, lacks)));
        let sshd = Sshd::start_with(&settings.unwrap_or_default());
        let mut bench =
            Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir.join("ssh"))), [sshd.spec("nas")]);
        let tree = odd_tree(&bench, "树");
        let file = bench.at("大 'file'");
        // Longer than what is fetched at once, and not by a whole number of pieces.
        fs::write(&file, (0..9_000_001u32).map(|at| (at % 251) as u8).collect::<Vec<_>>()).unwrap();
        let both = json!(["sha256", "sha1"]);
        let (of_file, of_tree) =
            (json!({ "path": file, "algorithms": both }), json!({ "tree": tree, "algorithms": both }));
        let blake = json!({ "path": file, "algorithms": ["blake3", "sha512"] });
        let here = [
            bench.run("hash", of_file.clone()).await.unwrap(),
            bench.run("hash", of_tree.clone()).await.unwrap(),
            bench.run("hash", blake.clone()).await.unwrap(),
        ];
        bench.cx.host = bench.cx.services.host(Some("nas")).await.unwrap();
        let there = [
            bench.run("hash", of_file).await.unwrap(),
            bench.run("hash", of_tree).await.unwrap(),
            bench.run("hash", blake).await.unwrap(),
        ];
        assert_eq!([&there[0]["via"], &there[1]["via"], &there[2]["via"]], [via, via, "streamed"]);
        for (mut here, there) in here.into_iter().zip(there) {
            here["via"] = there["via"].clone();
            assert_eq!(here, there, "{via}");
        }
        let error = bench.run("hash", json!({ "tree": bench.at("no") })).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::NotFound, "{error}");
        let error = bench.run("hash", json!({ "path": tree })).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
        let error = bench.run("hash", json!({ "tree": file })).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
        bench.cx.services.close().await;
    }
}

#[tokio::test]
async fn a_cancelled_read_ends() {
    let bench = Bench::new();
    let tree = odd_tree(&bench, "tree");
    bench.cancel.cancel();
    for params in [json!({ "tree": tree }), json!({ "path": bench.at("tree/a.txt") })] {
        assert_eq!(bench.run("hash", params).await.unwrap_err().class, ErrorClass::Cancelled);
    }
}
