//! Sizes, many files, and what the database costs. How long things take is told, not asserted.

use super::{code, media_sync};
use tests::{lab::lab_or_skip, stage::Stage, tell};

#[test]
fn sizes_of_1_10_and_100_mb_each_arrive_intact() {
    let stage = Stage::new(lab_or_skip!(), "");
    for (size, bytes) in [("size=1MB", 1_000_000), ("size=10MB", 10_000_000), ("size=100MB", 100_000_000)] {
        // As long as the daemon's own `sync_timeout_seconds`.
        let output = media_sync(&stage, &["-p", size, "-p", "timeout=300s"]);
        assert_eq!(code(&output), Some(0), "{size}: {output}");
        assert_eq!(stage.step("media[0]")["out"]["size"], bytes, "{size}");
        let (sent, arrived) = (stage.step("digest[0]"), stage.step("intact[0]"));
        assert!(sent["out"]["sha256"].is_string(), "{sent}");
        assert_eq!(sent["out"]["sha256"], arrived["out"]["sha256"], "{size}");
        let report = stage.report();
        tell(&format!(
            "{size}: precheck {} ms, {} in all {} ms",
            report["phases"][0]["took_ms"],
            stage.step("speed[0]")["out"]["stdout"].as_str().unwrap_or_default().trim(),
            report["took_ms"]
        ));
        stage.assert_clean_soon();
    }
}

#[test]
fn five_files_at_once() {
    let stage = Stage::new(lab_or_skip!(), "");
    let output = media_sync(&stage, &["-p", "count=5", "-p", "size=1MB", "-p", "prefix=冒烟 测试"]);
    assert_eq!(code(&output), Some(0), "{output}");
    for i in 0..5 {
        let (sent, arrived) = (stage.step(&format!("digest[{i}]")), stage.step(&format!("intact[{i}]")));
        assert!(sent["out"]["sha256"].is_string(), "{sent}");
        assert_eq!(sent["out"]["sha256"], arrived["out"]["sha256"], "{i}");
    }
    stage.assert_clean_soon();
}

#[test]
fn every_database_operation_is_timed() {
    let stage = Stage::new(lab_or_skip!(), "");
    let output = media_sync(&stage, &["-p", "count=3"]);
    assert_eq!(code(&output), Some(0), "{output}");
    let mut operations = 0;
    for step in [
        "sqlite",
        "record[0]",
        "record[1]",
        "record[2]",
        "transferred[0]",
        "transferred[1]",
        "transferred[2]",
    ] {
        let db = stage.step(step)["out"]["db"].clone();
        for key in ["operations", "waits", "wait_ms", "longest_wait_ms", "took_ms"] {
            assert!(db[key].is_u64(), "{step} {key}: {db}");
        }
        operations += db["operations"].as_u64().unwrap_or_default();
        tell(&format!("{step}: {db}"));
    }
    assert!(operations >= 7, "{operations}");
    let report = stage.report();
    assert_eq!(report["database"]["operations"], operations, "{}", report["database"]);
    stage.assert_clean_soon();
}
