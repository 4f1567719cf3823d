//! Any bytes as a playbook: it is read and planned, or refused with diagnostics that can be printed.

#![no_main]

mod kinds;

use engine::{
    Registry, Source,
    diagnostic::{Diagnostics, decode},
    expr::Outside,
    plan::{self, Inputs},
    playbook::{self, Inventory},
    step::RunInfo,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use std::sync::{Arc, LazyLock};

static REGISTRY: LazyLock<Registry> = LazyLock::new(kinds::registry);

/// A world without files.
struct Nowhere;

impl Outside for Nowhere {
    fn load(&self, path: &str) -> Result<Value, String> {
        Err(format!("there is no file `{path}`"))
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn printed(found: &Diagnostics) {
    let text = found.render(false);
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "nothing reaches the terminal raw");
    assert!(found.to_json().is_array());
}

fuzz_target!(|bytes: &[u8]| {
    let source: Arc<Source> = match decode("fuzz.yaml", bytes.to_vec()) {
        Ok(source) => source,
        Err(found) => return printed(&found),
    };
    match playbook::read(source, &REGISTRY, &Inventory::default(), &playbook::NoLibrary) {
        Err(found) => {
            assert!(found.has_errors(), "refused for a reason");
            printed(&found);
        }
        Ok((read, warnings)) => {
            assert!(!warnings.has_errors());
            printed(&warnings);
            let run = RunInfo {
                id: "01FUZZ".into(),
                stamp: "20250123_101500".into(),
                started_at: "2025-01-23T10:15:00+00:00".into(),
                host: "here".into(),
                user: "fuzzer".into(),
                dir: "/".into(),
                exe: "/bin/shakedown".into(),
            };
            let inputs = Inputs {
                params: Map::new(),
                run,
                max_parallel: None,
                default_parallel: 2,
                keep: None,
                outside: Arc::new(Nowhere),
                inventory: None,
            };
            // A plan, or problems: both are answers.
            let _planned = plan::build(&read, &inputs, &REGISTRY);
        }
    }
});
