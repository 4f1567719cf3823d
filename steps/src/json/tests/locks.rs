//! Turns with other programs.

use super::*;

#[tokio::test]
async fn a_lock_of_another_is_waited_for_counted_and_given_up() {
    let bench = bench();
    fs::write(bench.path("it.lock"), "").expect("writes");
    let mut params = on(&bench, "get", json!("/名字"));
    params["lock"] = json!(bench.at("it.lock"));
    params["lock_timeout"] = json!("20ms");
    let open = || File::open(bench.path("it.lock")).expect("opens");
    let held = Flock::lock(open(), FlockArg::LockExclusive).expect("locks");
    let error = bench.run("json", params.clone()).await.expect_err("held");
    assert!(error.class == ErrorClass::Busy && error.message.contains("it.lock"), "{error}");
    let hint = error.hint.expect("a hint");
    assert!(hint.contains("fuser -v") && hint.contains("lslocks"), "{hint}");

    let mut change = on(&bench, "remove", json!("/名字"));
    change["lock"] = params["lock"].clone();
    change["lock_timeout"] = params["lock_timeout"].clone();
    let now = bench.probe("json", &change).await.expect("looks");
    assert_eq!(now.prospect, Prospect::Unknown, "the run may get it");

    params["lock_timeout"] = json!("60s");
    let (run, free) = tokio::join!(bench.run("json", params.clone()), async {
        asked_twice(&bench.path("it.lock")).await;
        drop(held);
    });
    let () = free;
    let out = run.expect("reads");
    assert_eq!((&out["value"], &out["lock"]["waits"]), (&json!("无人机"), &json!(1)));

    // Readers do not keep each other out; a writer they do.
    let held = Flock::lock(open(), FlockArg::LockShared).expect("locks");
    let out = bench.run("json", params.clone()).await.expect("reads beside a reader");
    assert_eq!(out["lock"]["waits"], 0);
    change["lock_timeout"] = params["lock_timeout"].clone();
    let (result, ()) = tokio::join!(bench.run("json", change), async {
        asked_twice(&bench.path("it.lock")).await;
        bench.cancel.cancel();
    });
    assert_eq!(result.expect_err("given up").class, ErrorClass::Cancelled);
    assert_eq!(text(&bench), DOCUMENT);
    drop(held);
    params["lock"] = json!(bench.at("none.lock"));
    let error = Bench::new().run("json", params).await.expect_err("no lock file");
    assert!(error.class == ErrorClass::NotFound && error.message.contains("none.lock"), "{error}");
}

#[tokio::test]
async fn a_document_replaced_during_the_wait_is_locked_anew() {
    let bench = bench();
    let held = Flock::lock(File::open(bench.path("it.json")).expect("opens"), FlockArg::LockExclusive);
    let held = held.expect("locks");
    let params = on(&bench, "append", json!({ "to": "/jobs", "value": 1 }));
    let (it, second) = tokio::join!(started(&bench, params), async {
        asked_twice(&bench.path("it.json")).await;
        // Who locks the new file is waited for as well.
        fs::write(bench.path("new.json"), "{\"jobs\": [\"first\"]}").expect("writes");
        let second = Flock::lock(File::open(bench.path("new.json")).expect("opens"), FlockArg::LockExclusive);
        fs::rename(bench.path("new.json"), bench.path("it.json")).expect("renames");
        drop(held);
        asked_twice(&bench.path("it.json")).await;
        fs::write(bench.path("it.json"), "{\"jobs\": [\"second\"]}").expect("writes");
        drop(second);
    });
    let () = second;
    assert_eq!(text(&bench), "{\"jobs\": [\"second\", 1]}");
    assert!(it.result.as_ref().expect("ran")["lock"]["waits"].as_u64() >= Some(1));
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(text(&bench), "{\"jobs\": [\"second\"]}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_writers_all_get_their_turn_beside_one_that_waits_in_the_kernel() {
    let bench = bench();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, stopped) = (bench.path("it.json"), stop.clone());
    let busy = std::thread::spawn(move || {
        let mut turns = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let file = File::open(&path).expect("opens");
            let held = Flock::lock(file, FlockArg::LockExclusive).expect("locks");
            turns +=
                u64::from(fs::metadata(&path).expect("there").ino() == held.metadata().expect("there").ino());
        }
        turns
    });
    let lock = Lock {
        path: bench.at("it.json"),
        own: true,
        exclusive: true,
        optional: false,
        limit: Duration::from_secs(60),
        cancel: bench.cancel.signal(),
    };
    let turns = (0..20).map(|_| {
        let lock = lock.clone();
        tokio::spawn(async move {
            let mut effort = crate::json::Effort::default();
            for _ in 0..5 {
                let locked = lock.hold(&mut effort, |locked| Ok(Turn::Done(locked))).await;
                assert_eq!(locked, Ok(true));
            }
            effort
        })
    });
    for turn in turns.collect::<Vec<_>>() {
        assert_eq!(turn.await.expect("ends").locks, 5);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(busy.join().expect("ends") > 0);
}

#[tokio::test]
async fn a_writer_without_our_lock_loses_nothing() {
    let bench = Arc::new(bench());
    let writer = {
        let path = bench.path("it.json");
        std::thread::spawn(move || {
            for i in 0..50 {
                fs::write(path.with_extension("tmp"), format!("{{\"jobs\": [], \"i\": {i}}}"))
                    .expect("writes");
                fs::rename(path.with_extension("tmp"), &path).expect("renames");
            }
        })
    };
    let params = on(&bench, "append", json!({ "to": "/jobs", "value": 1 }));
    let it = bench.start("json", params).await;
    until("the writer has ended", async || writer.is_finished()).await;
    bench.undo(&it).await.expect("undoes");
    assert!(value(&bench)["jobs"] == json!([]) || value(&bench)["jobs"] == json!([{ "name": "a" }]));
    assert_eq!(names(&bench), ["it.json"]);
}
