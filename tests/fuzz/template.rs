//! Any text as a value with `${{ }}` inside, in every style of YAML, and as a template of a report.

#![no_main]

mod kinds;

use engine::{
    Source,
    playbook::{self, Inventory},
    report::template::{Escaping, Template},
};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

static REGISTRY: LazyLock<engine::Registry> = LazyLock::new(kinds::registry);

fuzz_target!(|text: &str| {
    let indented = text.replace('\n', "\n        ");
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let single = text.replace('\'', "''");
    for value in [format!("|\n        {indented}"), format!(">-\n        {indented}"), quoted, format!("'{single}'"), text.to_owned()] {
        let text = format!("name: x\nprecheck:\n  a:\n    command:\n      run: [cat]\n      reads: true\n      stdin: {value}\n");
        let source = Arc::new(Source { name: "fuzz.yaml".into(), text });
        match playbook::read(source, &REGISTRY, &Inventory::default(), &playbook::NoLibrary) {
            Ok((_, found)) | Err(found) => assert!(found.iter().all(|one| !one.message.is_empty())),
        }
    }
    let _template = Template::compile(text, Escaping::Html);
});
