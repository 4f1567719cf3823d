//! What the first user asked for, a test for each case by its name: `media-sync` in the lab, against real systemd, sshd
//! and SQLite. Each looks at the whole lab before and after.
//!
//! | asked for | test |
//! | --- | --- |
//! | every problem of the precheck, with guidance, before anything is created | `functional::precheck_names_every_problem_with_its_guidance` |
//! | a dead, a crashing daemon is refused | `media_sync::a_stopped_daemon_is_refused_…`, `media_sync::a_daemon_that_crashes_at_every_start_is_refused` |
//! | `--force` goes on regardless | `functional::force_goes_on_regardless_of_the_precheck` |
//! | continue, quit or recheck | `cli` (on a terminal), engine `prechecks_can_be_run_again_and_be_overridden` |
//! | waits for locks, measured | `performance::every_database_operation_is_timed`, `faults_database::a_lock_that_goes_away_is_waited_for_and_the_wait_is_counted` |
//! | no harm to others on the database | `harm::others_meet_no_more_locks_with_us_than_without` |
//! | three tests at once | `faults_daemon::three_runs_at_once_on_one_database_pass`, and twenty |
//! | status changes as they happen, a time line, the speed | `functional::status_changes_are_seen_and_kept_as_a_timeline_with_the_speed` |
//! | 1, 10 and 100 MB | `performance::sizes_of_1_10_and_100_mb_each_arrive_intact` |
//! | five files | `performance::five_files_at_once` |
//! | network lost and back | `reliability::the_network_goes_and_comes_back_in_the_middle`, `faults_network` |
//! | disk full | `reliability::the_disk_of_the_nas_is_full`, `faults_disk` |
//! | permission denied | `reliability::permission_is_denied_on_the_nas`, `faults_disk` |
//! | the daemon restarted | `reliability::the_daemon_is_restarted_in_the_middle_and_it_is_reported` |
//! | a failed transfer, told at once | `media_sync::a_failed_transfer_ends_the_run_at_once_and_all_is_undone` |
//! | exit codes | `functional::exit_codes_tell_passed_refused_and_failed` |

mod functional;
mod harm;
mod performance;
mod reliability;

use tests::{
    lab::{CONFIG, Output, Running, until},
    stage::Stage,
};

fn argv(more: &[&str]) -> Vec<String> {
    let config = format!("config={CONFIG}");
    ["run", "media-sync", "-p", &config].iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// Runs `media-sync` to its end.
fn media_sync(stage: &Stage, more: &[&str]) -> Output {
    let argv = argv(more);
    stage.shakedown(&argv.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Starts it, with its report and events where [`Stage`] looks for them.
fn started(stage: &Stage, more: &[&str]) -> Running {
    let argv = argv(more);
    stage.start_shakedown(&argv.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Starts it beside a daemon that stands still, and comes back once its row is there.
fn in_the_middle(stage: &Stage, more: &[&str]) -> Running {
    stage.lab.edge().sh("systemctl kill -s STOP media-sync-daemon").ok();
    let mut running = started(stage, more);
    until("the row is there", || rows(stage) == "1" || !running.is_running());
    assert!(running.is_running(), "it ended before its time: {}", running.wait());
    running
}

fn go_on(stage: &Stage) {
    stage.lab.edge().sh("systemctl kill -s CONT media-sync-daemon").ok();
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn rows(stage: &Stage) -> String {
    stage.lab.sql("SELECT count(*) FROM media_transfer_status").trim().to_owned()
}
