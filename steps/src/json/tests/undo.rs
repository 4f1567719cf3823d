//! Changes taken back, alone and among the changes of others.

use super::*;

#[tokio::test]
async fn every_change_looks_like_the_document_and_is_undone_byte_for_byte() {
    let new = json!({ "名": "新", "list": [1] });
    for before in [
        DOCUMENT,
        "{\"名字\":\"无人机\",\"jobs\":[{\"name\":\"a\"}]}",
        "{\"名字\": 1, \"jobs\": [{\"name\": \"a\"}]}",
        "{\n\t\"名字\": 1,\n\t\"jobs\": []\n}",
        "{\r\n  \"名字\": 1,\r\n  \"jobs\": [1,2]\r\n}\r\n",
        "\n { \"jobs\" : [ 1 ] , \"名字\" : 0 }",
    ] {
        let bench = Bench::new();
        write(&bench, before);
        for (action, what) in [
            ("set", json!({ "at": "/名字", "value": new })),
            ("set", json!({ "at": "/added", "value": new })),
            ("set", json!({ "at": "", "value": new })),
            ("append", json!({ "to": "/jobs", "value": new })),
            ("remove", json!("/名字")),
            ("remove", json!("/jobs")),
        ] {
            let it = started(&bench, on(&bench, action, what.clone())).await;
            assert_ne!(text(&bench), before);
            assert_eq!(text(&bench).contains('\r'), before.contains('\r'));
            assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
            assert_eq!(text(&bench), before, "{action} {what}");
            assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo), "twice is once");
            assert_eq!(bench.presence(&it).await, Ok(engine::step::Presence::Gone));
            assert_eq!(names(&bench), ["it.json"]);
        }
    }
}

#[tokio::test]
async fn others_may_work_on_the_document_and_only_our_part_is_taken_back() {
    // Python's way of writing: other indentation, other escapes, other numbers.
    let rewrite = |bench: &Bench, change: &dyn Fn(&mut Value)| {
        let mut now = value(bench);
        change(&mut now);
        write(bench, &now.to_string());
    };
    let bench = bench();
    let it = started(
        &bench,
        on(&bench, "append", json!({ "to": "/jobs", "value": { "name": "ours", "n": 1.50 } })),
    )
    .await;
    rewrite(&bench, &|now| now["jobs"].as_array_mut().expect("jobs").insert(0, json!({ "name": "theirs" })));
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert_eq!(value(&bench)["jobs"], json!([{ "name": "theirs" }, { "name": "a" }]));

    let it = started(&bench, on(&bench, "set", json!({ "at": "/名字", "value": [1] }))).await;
    rewrite(&bench, &|now| now["theirs"] = json!(true));
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!((&value(&bench)["名字"], &value(&bench)["theirs"]), (&json!("无人机"), &json!(true)));

    let it = started(&bench, on(&bench, "set", json!({ "at": "/new", "value": 7 }))).await;
    rewrite(&bench, &|now| now["theirs"] = json!(false));
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert!(value(&bench).get("new").is_none());

    let it = started(&bench, on(&bench, "remove", json!("/名字"))).await;
    rewrite(&bench, &|now| now["theirs"] = json!(1));
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(value(&bench).as_object().and_then(|now| now.keys().next()), Some(&"名字".to_owned()));

    let it = started(&bench, on(&bench, "remove", json!("/jobs/1"))).await;
    rewrite(&bench, &|now| now["jobs"].as_array_mut().expect("jobs").clear());
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(value(&bench)["jobs"], json!([{ "name": "a" }]), "its place is clamped");
    assert_eq!(names(&bench), ["it.json"]);
}

#[tokio::test]
async fn an_element_is_known_by_its_id_while_others_write_into_it() {
    let bench = bench();
    let params = |id: &str| {
        let mut params =
            on(&bench, "append", json!({ "to": "/jobs", "value": { "name": id, "state": "queued" } }));
        params["id"] = json!("/name");
        params
    };
    let it = started(&bench, params("ours")).await;
    let error = bench.run("json", params("ours")).await.expect_err("its id is there");
    assert!(error.class == ErrorClass::Exists && error.message.contains("/jobs/1"), "{error}");
    write(&bench, r#"{"jobs": [{"name": "ours", "progress": 3, "state": "queued"}, 1]}"#);
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed), "new members belong to nobody else");
    assert_eq!(text(&bench), r#"{"jobs": [1]}"#);

    let it = started(&bench, params("ours")).await;
    write(&bench, r#"{"jobs": [{"name": "ours", "state": "done"}]}"#);
    let left = left(bench.undo(&it).await.expect("looks"));
    assert!(left.why.contains("`state` changed") && left.what.contains("/jobs/0"), "{left:?}");
    assert_eq!(names(&bench), ["it.json"]);
    sh(&left.remove_with);
    assert_eq!(value(&bench), json!({ "jobs": [{ "name": "ours", "state": "done" }] }));
    assert_eq!(names(&bench), ["it.json"]);
}

#[tokio::test]
async fn without_an_id_one_of_equal_elements_goes_and_one_that_grew_is_left() {
    let bench = Bench::new();
    write(&bench, "[7, 1]");
    let it = started(&bench, on(&bench, "append", json!({ "to": "", "value": 7 }))).await;
    write(&bench, "[7, 1, 7, 2]");
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(text(&bench), "[7, 1, 2]");
    let it = started(&bench, on(&bench, "append", json!({ "to": "", "value": 7 }))).await;
    write(&bench, "[3, 7]");
    assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo), "that one was there before");
    let it = started(&bench, on(&bench, "append", json!({ "to": "", "value": { "a": 1 } }))).await;
    write(&bench, "[3, 7, {\"a\": 1, \"b\": 2}]");
    let left = left(bench.undo(&it).await.expect("looks"));
    assert!(left.why.contains("`id`"), "{left:?}");
}

#[tokio::test]
async fn what_others_changed_is_left_and_named_with_what_was_there_before() {
    let bench = bench();
    let it = started(&bench, on(&bench, "set", json!({ "at": "/名字", "value": 1 }))).await;
    write(&bench, "{\"名字\": 2, \"x\": [1]}");
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.what.contains("/名字") && told.why.contains("before, it was \"无人机\""), "{told:?}");
    sh(&told.remove_with);
    assert_eq!(value(&bench), json!({ "名字": 2, "x": [1] }));

    let it = started(&bench, on(&bench, "remove", json!("/x/0"))).await;
    write(&bench, "{\"x\": {}}");
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.why.contains("another value now") && told.what.contains("/x/0"), "{told:?}");

    write(&bench, "{\"a\": 1, \"b\": 2}");
    let it = started(&bench, on(&bench, "remove", json!("/a"))).await;
    write(&bench, "{\"a\": 5, \"b\": 2}");
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.why.contains("before, it was 1"), "{told:?}");
    sh(&told.remove_with);
    assert_eq!(value(&bench), json!({ "a": 5, "b": 2 }));
    write(&bench, "{\"a\": 1, \"b\": 2}");

    // A cleaner took the record: the journal has what is short, and what is long is said rather than taken for undone.
    let sweep = |bench: &Bench| {
        for name in names(bench).iter().filter(|name| name.starts_with('.')) {
            fs::remove_file(bench.path(name)).expect("removes");
        }
    };
    let it = started(&bench, on(&bench, "set", json!({ "at": "/c", "value": 3 }))).await;
    sweep(&bench);
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(value(&bench), json!({ "a": 1, "b": 2 }));
    let long = json!({ "long": "长".repeat(5_000), "b": 2 });
    write(&bench, &long.to_string());
    let it = started(&bench, on(&bench, "set", json!({ "at": "/long", "value": 3 }))).await;
    sweep(&bench);
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.why.contains("record"), "{told:?}");
    assert!(
        matches!(bench.undo_blindly(&it).await, Ok(Undone::CannotTell(_))),
        "nobody can say what was there"
    );
}

#[tokio::test]
async fn a_document_is_made_only_if_asked_for_and_goes_if_nobody_wrote_into_it() {
    let bench = Bench::new();
    let mut params = on(&bench, "set", json!({ "at": "/a", "value": [1] }));
    let error = bench.run("json", params.clone()).await.expect_err("absent");
    assert_eq!(error.class, ErrorClass::NotFound);
    params["create"] = json!(true);
    let it = started(&bench, params.clone()).await;
    assert_eq!(text(&bench), "{\n  \"a\": [\n    1\n  ]\n}\n");
    assert_eq!(it.result.as_ref().expect("made")["created"], true);
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert_eq!(names(&bench), Vec::<String>::new());

    let it = started(&bench, params.clone()).await;
    write(&bench, "{\"a\":[1]}");
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed), "written anew, and still only ours");
    assert_eq!(names(&bench), Vec::<String>::new());

    let it = started(&bench, params).await;
    write(&bench, "{\"a\":[1],\"theirs\":1}");
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.why.contains("others have written"), "{told:?}");
    assert_eq!(text(&bench), "{\"theirs\":1}");

    fs::remove_file(bench.path("it.json")).expect("removes");
    let mut params = on(&bench, "append", json!({ "to": "", "value": "一" }));
    params["create"] = json!(true);
    let it = started(&bench, params).await;
    assert_eq!(text(&bench), "[\n  \"一\"\n]\n");
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(names(&bench), Vec::<String>::new());
}

#[tokio::test]
async fn after_a_crash_the_record_tells_whether_it_happened() {
    let bench = bench();
    let params = on(&bench, "append", json!({ "to": "/jobs", "value": { "name": "ours" } }));
    let it = bench.intend("json", params.clone()).await;
    assert_eq!(bench.settle(&it).await, Ok(Settled::NotHappened));
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::NothingToDo));
    let it = started(&bench, params).await;
    let Ok(Settled::Happened(out)) = bench.settle(&it).await else { panic!("it happened") };
    let told = it.result.as_ref().expect("ran");
    for key in ["changed", "created", "index", "same"] {
        assert_eq!(out[key], told[key], "{key}");
    }
    // Killed before the rename: the new document still has its own name.
    let mark = it.intent["mark"].as_str().expect("a mark");
    let new = bench.path(&format!(".shakedown-{mark}.new"));
    fs::rename(bench.path("it.json"), &new).expect("moves");
    write(&bench, DOCUMENT);
    assert_eq!(bench.settle(&it).await, Ok(Settled::NotHappened));
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::NothingToDo));
    assert_eq!((names(&bench), text(&bench).as_str()), (vec!["it.json".to_owned()], DOCUMENT));
}

#[tokio::test]
async fn a_person_can_take_it_back_without_us() {
    let bench = bench();
    let params = on(&bench, "set", json!({ "at": "/名字", "value": "新" }));
    let it = started(&bench, params.clone()).await;
    let kind = crate::builtin();
    let by_hand = kind
        .get("json")
        .expect("built in")
        .by_hand(&bench.cx.services, None, &params, &it.intent)
        .expect("a command");
    sh(&by_hand.command);
    assert_eq!((names(&bench), text(&bench).as_str()), (vec!["it.json".to_owned()], DOCUMENT));
}

#[tokio::test]
async fn in_cleanup_what_is_removed_is_gone_and_may_be_gone_already() {
    let mut bench = bench();
    bench.cx.phase = Phase::Cleanup;
    let it = started(&bench, on(&bench, "remove", json!("/jobs"))).await;
    assert_eq!(names(&bench), ["it.json"]);
    assert_eq!(bench.undo(&it).await.map(|undone| undone == Undone::Removed), Ok(false));
    assert!(value(&bench).get("jobs").is_none());
    let again = bench.run("json", on(&bench, "remove", json!("/jobs"))).await.expect("nothing to remove");
    assert_eq!(again["changed"], false);
}

#[tokio::test]
async fn a_secret_is_in_the_document_and_nowhere_else() {
    let mut bench = bench();
    let found = [("token".to_owned(), Ok("s3cr&t-\"密码\"".to_owned().into()))];
    Arc::get_mut(&mut bench.cx.services).expect("not shared").secrets =
        Secrets::of(found.into_iter().collect()).into();
    let set = json!({ "at": "/token", "value": { "is": engine::secret::mark("token") } });
    let it = started(&bench, on(&bench, "set", set)).await;
    assert_eq!(value(&bench)["token"]["is"], "s3cr&t-\"密码\"");
    for name in names(&bench).iter().filter(|name| name.starts_with('.')) {
        let bytes = fs::read(bench.path(name)).expect("reads");
        assert!(!String::from_utf8_lossy(&bytes).contains("s3cr&t"), "{name}");
    }
    assert!(!format!("{} {:?}", it.intent, it.result).contains("s3cr&t"));
    write(&bench, &text(&bench).replace("\"float\"", "\"flaot\""));
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert_eq!(text(&bench), DOCUMENT.replace("\"float\"", "\"flaot\""));
}

/// An access list: what owner, user 12345, group and all others may do, as Linux stores it.
fn access_list(user: u16, group: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries = [(1u16, 6u16, none), (2, user, 12_345), (4, group, none), (16, 6, none), (32, 0, none)];
    let one = |(tag, may, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    2u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(one)).collect()
}

#[tokio::test]
async fn users_that_an_access_list_names_keep_their_access_and_others_get_none() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    const ACCESS: &str = "system.posix_acl_access";
    let list = |bench: &Bench| {
        let mut value = [0; 256];
        let found = getxattr(bench.path("it.json"), ACCESS, &mut value[..]);
        found.ok().map(|length| value[..length].to_vec())
    };
    let bench = bench();
    let wanted = access_list(6, 4);
    setxattr(bench.path("it.json"), ACCESS, &wanted, XattrFlags::empty()).expect("the list is set");
    // Files that are made in the folder get another list.
    let folder = "system.posix_acl_default";
    setxattr(bench.dir.path(), folder, &access_list(7, 7), XattrFlags::empty()).expect("the default is set");
    for with in [true, false] {
        if !with {
            rustix::fs::removexattr(bench.path("it.json"), ACCESS).expect("removed");
        }
        let before = (list(&bench), fs::metadata(bench.path("it.json")).expect("there").mode());
        assert_eq!(before.0, with.then(|| wanted.clone()));
        let it = started(&bench, on(&bench, "set", json!({ "at": "/名字", "value": 1 }))).await;
        assert_ne!(text(&bench), DOCUMENT);
        let after = (list(&bench), fs::metadata(bench.path("it.json")).expect("there").mode());
        assert_eq!(after, before);
        assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
        assert_eq!(text(&bench), DOCUMENT);
        let undone = (list(&bench), fs::metadata(bench.path("it.json")).expect("there").mode());
        assert_eq!(undone, before);
    }
}

#[tokio::test]
async fn an_equal_element_of_another_is_not_taken_for_ours_that_has_grown() {
    let bench = bench();
    let it = started(&bench, on(&bench, "append", json!({ "to": "/jobs", "value": { "name": "同" } }))).await;
    let mut now = value(&bench);
    let jobs = now["jobs"].as_array_mut().expect("jobs");
    jobs[1]["state"] = json!("running");
    jobs.push(json!({ "name": "同" }));
    write(&bench, &now.to_string());
    let Ok(Undone::Left(left)) = bench.undo(&it).await else { panic!("one of them was removed") };
    assert!(left.what.contains("/jobs/1") && left.why.contains("members were added"), "{left:?}");
    assert_eq!(value(&bench), now);
}

#[tokio::test]
async fn a_value_that_is_too_long_for_a_journal_is_neither_read_nor_kept() {
    let bench = bench();
    let long = "长".repeat(400_000);
    write(&bench, &json!({ "long": long, "short": 1 }).to_string());
    let before = text(&bench);
    let error = bench.run("json", on(&bench, "get", json!("/long"))).await.expect_err("too long");
    assert!(error.message.contains("has 1200002 bytes: expected at most 1048576"), "{error}");
    assert_eq!(bench.run("json", on(&bench, "get", json!("/short"))).await.expect("read")["value"], 1);
    let it = started(&bench, on(&bench, "set", json!({ "at": "/long", "value": 0 }))).await;
    assert!(it.result.as_ref().expect("set").get("earlier").is_none(), "{:?}", it.result);
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert!(text(&bench) == before, "byte for byte");
}

/// The very file comes back, with the time of its last change; another in its place has at least that.
#[tokio::test]
async fn the_document_is_again_the_file_that_it_was() {
    let bench = bench();
    let facts = || fs::metadata(bench.path("it.json")).map(|it| (it.ino(), it.modified().expect("kept")));
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_123_456_789);
    let file = fs::File::options().write(true).open(bench.path("it.json")).expect("opens");
    file.set_modified(old).expect("set");
    let before = facts().expect("there");
    for kept in [true, false] {
        let it = started(&bench, on(&bench, "set", json!({ "at": "/名字", "value": "新" }))).await;
        assert_ne!(facts().expect("there").0, before.0);
        if !kept {
            let mark = it.intent["mark"].as_str().expect("a mark");
            fs::remove_file(bench.path(&format!(".shakedown-{mark}.new"))).expect("removed");
        }
        assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
        let after = facts().expect("there");
        assert_eq!((after.0 == before.0, after.1), (kept, old));
        assert_eq!((names(&bench), text(&bench).as_str()), (vec!["it.json".to_owned()], DOCUMENT));
    }
}
