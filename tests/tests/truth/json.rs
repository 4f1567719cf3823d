//! JSON documents: rotated, replaced, changed, killed at, and out of reach.

use tests::truth::{After, Death, Row, rows};

/// An element that others may have, too.
const APPEND: &str = "prepare: { add: { json: { path: it.json, append: { to: /jobs, value: { name: 同, state: queued } } } } }";
/// A document in a folder.
const SETUP: &str =
    "mkdir d; printf '{\"jobs\": [1.50, {\"a\": 1e400}], \"n\": 7}' >d/it.json; cp d/it.json it.json";
const READY: &str = "grep -q 同 it.json";
/// All that a written undo and a cleanup step can do to a document.
const FINAL: &str = "
prepare:
  made:
    command: { shell: 'true' }
    undo: { json: { path: it.json, append: { to: /jobs, value: { name: 同 } } } }
  set:
    command: { shell: 'true' }
    undo: { json: { path: it.json, set: { at: /n, value: { 深: [1, 2] } } } }
cleanup:
  gone: { json: { path: d/it.json, remove: /n } }
";

rows! {
    /// Nothing happens to it.
    a_document_comes_back_byte_for_byte: Row { setup: SETUP, playbook: APPEND, says: &["left 0"], ..Row::HERE };
    /// A writer replaces the document and keeps our element: normal life.
    a_document_that_its_writer_replaced_keeps_all_but_ours: Row {
        setup: SETUP,
        playbook: APPEND,
        ready: READY,
        meanwhile: "sed 's/\"n\": 7/\"n\": 8/' it.json >next; mv next it.json",
        says: &["left 0", "undone 1 of 1"],
        differs: &["~ file it.json"],
        ..Row::HERE
    };
    /// It is rotated away, and another's new document has an equal element.
    a_document_that_was_rotated_is_named_and_its_successor_stays: Row {
        setup: SETUP,
        playbook: APPEND,
        ready: READY,
        meanwhile: "mv it.json it.json.1; printf '{\"jobs\": [{\"name\": \"同\", \"state\": \"queued\"}]}' >it.json",
        exit: 4,
        says: &["left 1", "it.json.1", "the document was renamed to"],
        differs: &["~ file it.json", "+ file it.json.1"],
        typed: Some(&["~ file it.json", "+ file it.json.1"]),
        over: false,
        ..Row::HERE
    };
    /// Its writer replaces it before it is rotated: no file is the one that was published.
    a_document_that_was_replaced_and_rotated_is_named: Row {
        setup: SETUP,
        playbook: APPEND,
        ready: READY,
        meanwhile: "cp it.json next; mv next it.json; mv it.json it.json.1; echo '{\"jobs\": []}' >it.json",
        exit: 4,
        says: &["left 1", "it.json.1"],
        differs: &["~ file it.json", "+ file it.json.1"],
        typed: Some(&["~ file it.json", "+ file it.json.1"]),
        over: false,
        ..Row::HERE
    };
    /// Its folder is renamed, and another's has its name.
    a_folder_that_was_renamed_is_named_and_its_successor_stays: Row {
        setup: SETUP,
        playbook: "prepare: { add: { json: { path: d/it.json, append: { to: /jobs, value: 同 } } } }",
        ready: "grep -q 同 d/it.json",
        meanwhile: "mv d e; mkdir d; echo '{\"jobs\": [\"同\"]}' >d/it.json",
        exit: 4,
        says: &["left 1", "/e/it.json", "its folder was renamed"],
        differs: &["~ file d/it.json", "+ file e"],
        typed: Some(&["~ file d/it.json", "+ file e"]),
        over: false,
        ..Row::HERE
    };
    /// What it stood on is not mounted any more: below it is another's document.
    a_document_below_a_mount_that_is_gone_cannot_be_told: Row {
        setup: "mkdir m; echo '{\"jobs\": [\"同\"]}' >m/it.json; mkdir -m 700 t; mount -t tmpfs tmpfs m; \
                echo '{\"jobs\": []}' >m/it.json",
        playbook: "prepare: { add: { json: { path: m/it.json, append: { to: /jobs, value: 同 } } } }",
        ready: "grep -q 同 m/it.json",
        meanwhile: "umount -l m",
        exit: 4,
        says: &["left 0", "1 cannot be told", "unmounted since"],
        differs: &["~ file m"],
        over: false,
        ..Row::HERE
    };
    /// The program under test works on our element: that is not the one that we know, and it is not gone either.
    an_element_that_was_changed_is_left_and_named: Row {
        setup: SETUP,
        playbook: APPEND,
        ready: READY,
        meanwhile: "sed 's/queued/done/' it.json >next; mv next it.json",
        exit: 4,
        says: &["left 1", "/jobs/2"],
        differs: &["~ file it.json"],
        typed: Some(&["~ file it.json"]),
        over: false,
        ..Row::HERE
    };
    /// A number that became another type counts as changed.
    a_number_of_another_type_is_left_and_named: Row {
        setup: SETUP,
        playbook: "prepare: { set: { json: { path: it.json, set: { at: /n, value: 1 } } } }",
        ready: "grep -q '\"n\": 1}' it.json",
        meanwhile: "sed 's/\"n\": 1/\"n\": 1.0/' it.json >next; mv next it.json",
        exit: 4,
        says: &["left 1", "changed since"],
        differs: &["~ file it.json"],
        typed: Some(&["~ file it.json"]),
        over: false,
        ..Row::HERE
    };
    /// An effect that failed is none, also if another has made an equal element.
    what_was_refused_is_not_counted: Row {
        setup: SETUP,
        playbook: "prepare: { add: { json: { path: it.json, append: { to: /none, value: 1 } } } }",
        exit: 2,
        says: &["nothing at `/none`"],
        silent: &["created 1"],
        ..Row::HERE
    };
    /// Each attempt of a retried step is taken back.
    every_attempt_is_taken_back: Row {
        setup: SETUP,
        playbook: "prepare: { add: { retry: { attempts: 3, on: [expectation] }, json: { path: it.json, append: { to: /jobs, value: 同 } }, \
                   expect: out.index == 99 } }",
        exit: 2,
        says: &["left 0"],
        ..Row::HERE
    };
    /// Killed anywhere, nothing is left, beside the document either.
    killed_anywhere_a_change_is_taken_back: Row {
        setup: SETUP,
        playbook: "prepare: { add: { json: { path: it.json, append: { to: /jobs, value: 同 } } }, \
                   made: { needs: [add], json: { path: new.json, create: true, set: { at: /a, value: 1 } } } }",
        death: Death::Everywhere,
        ..Row::HERE
    };
    /// Killed once more on the way back.
    killed_on_the_way_back_a_change_is_taken_back_all_the_same: Row {
        setup: SETUP,
        playbook: APPEND,
        death: Death::Twice("after:add"),
        ..Row::HERE
    };
    /// Several steps on one document: the file of each is put by for the undo of the next.
    killed_on_the_way_back_all_changes_of_a_document_are_taken_back: Row {
        setup: "printf '{\"gone\": {\"a\": 1.0}, \"l\": [\"x1\"], \"k2\": \"old\"}' >it.json",
        playbook: "
prepare:
  set: { foreach: [k1, k2, k3, k4], json: { path: it.json, set: { at: '/${{ each.value }}', value: 1 } } }
  add: { foreach: [1, 2], json: { path: it.json, append: { to: /l, value: 'x${{ each.value }}' } } }
  gone: { json: { path: it.json, remove: /gone } }
  end: { needs: [set, add, gone], file: { create: x, text: x } }",
        death: Death::Twice("after:end"),
        ..Row::HERE
    };
    /// Killed before it was done, and another has done the same meanwhile.
    an_equal_element_of_another_stays_after_a_death: Row {
        setup: SETUP,
        playbook: APPEND,
        death: Death::At("before:add"),
        between: "printf '{\"jobs\": [{\"name\": \"同\", \"state\": \"queued\"}]}' >next; mv next it.json",
        differs: &["~ file it.json"],
        ..Row::HERE
    };
    /// Killed after it was done, it is not done twice.
    what_was_done_is_not_done_twice: Row {
        setup: SETUP,
        playbook: "prepare: { add: { json: { path: it.json, append: { to: /jobs, value: 同 } } } }\n\
                   monitor: { once: { json: { path: it.json, get: /jobs }, expect: out.count == 3 } }",
        death: Death::Everywhere,
        after: After::Resume,
        ..Row::HERE
    };
    /// Written undos and cleanup steps leave their effect, and nothing beside it.
    what_is_final_leaves_nothing_beside_the_document: Row {
        setup: SETUP,
        playbook: FINAL,
        says: &["left 0"],
        differs: &["~ file it.json", "~ file d/it.json"],
        ..Row::HERE
    };
}

/// Killed anywhere in a written undo or a cleanup step, it ends as if it had run once.
#[test]
fn killed_anywhere_what_is_final_has_run_once() {
    for points in 1.. {
        let bare = tests::bare::Bare::new();
        let set_up = bare.command(std::path::Path::new("/bin/sh"), &["-c", SETUP]).status().expect("sh");
        assert!(set_up.success());
        let output = bare.run_with(&format!("kill:{points}"), FINAL);
        if output.status.code().is_some() {
            assert!(points > 20, "only {points} points");
            return;
        }
        let recovered = bare.shakedown(&["recover", "--yes"]);
        assert_eq!(recovered.status.code(), Some(0), "{points}: {}", tests::folders::said(&recovered));
        let entries = std::fs::read_dir(bare.dir.path()).expect("lists").flatten().map(|it| it.file_name());
        assert!(!entries.into_iter().any(|name| name.to_string_lossy().starts_with('.')), "{points}");
        let text = std::fs::read_to_string(bare.path("it.json")).expect("there");
        assert!(text.matches('同').count() <= 1, "{points}: {text}");
    }
}
